/*
 * Part of The Bitcoin Game's ckpool fork.
 * Copyright (C) 2026 The Bitcoin Game
 * SPDX-License-Identifier: GPL-3.0-or-later
 */

/* Plays a pool's day on the woven tree, and looks at what comes out of the
 * socket. Compiled with the woven stratifier.c in front. */

#include "stratifier.c"

#include <pthread.h>

#include "check.h"
#include "receiver.h"

#define USER "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080"
#define HASH "00000000002d1f5e6b7a8c9d0e1f2a3b4c5d6e7f8091a2b3c4d5e6f708192a3b"
#define BLOCK "00000000001111112222222233333333444444445555555566666666777777ff"
#define HEADER \
	"00000020" \
	"1f0e9d8c7b6a5f4e3d2c1b0a99887766554433221100ffeeddccbbaa99887766" \
	"4a5e1e4baab89f3a32518a88c31bc87f618f76673e2cc77ab2127b7afdeda33b" \
	"41fd2069" "ffff7f20" "e2031c7a"
#define COINBASE "01000000010000"
#define NODE_0 "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
#define NODE_1 "ffeeddccbbaa99887766554433221100ffeeddccbbaa99887766554433221100"
#define PROOF "\"proof\":{\"header\":\"" HEADER "\",\"branch\":[\"" NODE_0 "\",\"" NODE_1 \
	"\"],\"coinbase\":\"" COINBASE "\"}}}"

ckpool_t ckpool = { .name = "mini", .btcsig = "/TheBitcoinGame-dev/", .regtest = true };

static char text[TBG_DATAGRAM_MAX + 1];
static int fd;

void logmsg(int loglevel, const char *fmt, ...)
{
	(void)loglevel;
	(void)fmt;
}

/* The next datagram is that event and says all of these, up to NULL. */
static void expect(const char *sentence, const char *event, ...)
{
	const char *wanted;
	va_list list;
	int tries, holds;

	for (tries = 0; tries < 500 && !receiver_next(fd, text); tries++)
		strcpy(text, "nothing came");
	holds = strstr(text, event) != NULL;
	va_start(list, event);
	while (holds && (wanted = va_arg(list, const char *)) != NULL) {
		holds = strstr(text, wanted) != NULL;
		if (!holds)
			printf("# without %s\n", wanted);
	}
	va_end(list);
	if (!check(holds, "%s: %s", event, sentence))
		printf("# got %s\n", text);
}

static bool submit(struct stratum_instance *client, struct submission *submission)
{
	enum share_err err = SE_NONE;

	return parse_submit(client, submission, &err);
}

int main(void)
{
	struct worker_instance rig = { .workername = strdup(USER ".rig"), .mindiff = 8, .dsps1 = 1 };
	struct worker_instance bare = { .workername = strdup(USER), .next = &rig };
	struct user_instance user = { .username = USER, .best_ever = 2000,
				 .worker_instances = &bare,
				 .dsps1 = 2, .dsps5 = 3, .dsps60 = 4, .dsps1440 = 5 };
	struct genwork wb = { .height = 102, .coinbasevalue = 5000000100, .network_diff = 3000,
			  .prevhash = "18192a3bd5e6f7078091b2c34c5d6e7f0e1f2a3b6b7a8c9d002d1f5e00000000" };
	struct submission share = { .workername = USER ".rig", .job_id = "6920fd40",
				    .nonce = "7a1c03e2", .nonce2 = "00000029", .ntime = "6920fd41",
				    .hash = HASH, .header = HEADER, .coinbase = COINBASE,
				    .sdiff = 600, .version_mask = 0x2000 };
	struct submission one;
	struct stratum_instance client = {
		.id = 7, .diff = 1, .start_time = time(NULL) - 60, .address = "192.0.2.17",
		.user_instance = &user, .worker_instance = &rig, .useragent = strdup("bitaxe"),
		.workername = strdup(USER ".rig"),
	};
	struct stratum_instance stranger = { .user_instance = &user };
#ifdef SHAPE_current
	struct stratum_instance sub = { .user_instance = &user, .authorised = true,
					.workername = strdup(USER ".sub") };
#endif
	struct pool_data *sdata;
	char path[64];

	snprintf(path, sizeof(path), "/tmp/tbg-play-%d.sock", (int)getpid());
	setenv("TBG_EVENTS_SOCKET", path, 1);
	setenv("TBG_EVENTS_STATE", "", 1);
	fd = receiver_open(path);
	wb.merkles = 2;
	hex2bin((uchar *)wb.merklebin[0], NODE_0, 32);
	hex2bin((uchar *)wb.merklebin[1], NODE_1, 32);
	stratifier(NULL);
	sdata = client.sdata = ckpool.sdata;
	sdata->user_instances = &user;
	stranger.sdata = sdata;
	snprintf(sdata->lastswaphash, sizeof(sdata->lastswaphash), "%s", HASH);

	client_auth(&stranger, &user, false);
	sauth_process(&client);
	expect("once the miner authorised", "miner_connected", "\"worker\":\"rig\"",
	       "\"initial_diff\":1.0", "\"user_agent\":\"bitaxe\"", "\"client_id\":7",
	       "\"ip\":\"192.0.2.17\"", "\"instance\":\"mini/", "\"seq\":1,", NULL);
	expect("the worker's own minimum", "diff_updated", "\"old_diff\":1.0,\"new_diff\":8.0",
	       "\"reason\":\"mindiff\"", NULL);

	submit(&client, &share);
	expect("before there is work", "share_submitted", "\"valid\":false",
	       "\"reject_reason\":\"No workbase\"", "\"difficulty\":8.0,\"share_diff\":null",
	       "\"job_id\":null,\"nonce\":null,\"nonce2\":null", NULL);
	block_update(NULL, NULL);
	block_update(sdata, &wb);
	expect("the tip, one below the work", "new_block_network", "\"height\":101", HASH,
	       "\"network_difficulty\":3000.0", NULL);

	suggest_diff(&client, "mining.suggest_difficulty", 512);
	expect("the miner's wish", "diff_updated", "\"old_diff\":8.0,\"new_diff\":512.0",
	       "\"reason\":\"suggest\"", NULL);

	check(submit(&client, &share), "a good share is accepted");
	expect("of the session", "share_best_diff", "\"period\":\"session\"",
	       "\"new_best_diff\":600.0", "\"previous_best_diff\":0.0", HASH, NULL);
	check(!strstr(text, "proof"), "which nobody else sees, so without proof");
	expect("of the week", "share_best_diff", "\"period\":\"week\"", PROOF, NULL);
	expect("vardiff", "diff_updated", "\"old_diff\":512.0,\"new_diff\":1024.0",
	       "\"reason\":\"vardiff\"", NULL);
	expect("accepted, at the difficulty it was mined for", "share_submitted", "\"valid\":true",
	       "\"reject_reason\":null", "\"difficulty\":512.0,\"share_diff\":600.0",
	       "\"job_id\":\"6920fd40\",\"nonce\":\"7a1c03e2\",\"nonce2\":\"00000029\"",
	       "\"ntime\":\"6920fd41\",\"hash\":\"" HASH, "\"version_bits\":\"00002000\"",
	       "\"network_difficulty\":3000.0", NULL);

	submit(&client, &share);
	expect("too easy now", "share_submitted", "\"reject_reason\":\"Above target\"",
	       "\"difficulty\":1024.0,\"share_diff\":600.0", NULL);
	one = share;
	one.job_id = "unheard of";
	submit(&client, &one);
	expect("work that is gone", "share_submitted", "\"reject_reason\":\"Invalid JobID\"",
	       "\"share_diff\":null", "\"hash\":null", NULL);
	one.job_id = "5920fd40";
	submit(&client, &one);
	expect("work of the block before", "share_submitted", "\"reject_reason\":\"Stale\"",
	       "\"share_diff\":600.0", HASH, NULL);
	one = share;
	one.sdiff = 2500;
	one.duplicate = true;
	submit(&client, &one);
	expect("a duplicate breaks no best", "share_submitted", "\"reject_reason\":\"Duplicate\"",
	       "\"share_diff\":2500.0", NULL);
	one.workername = "";
	submit(&client, &one);
	expect("malformed", "share_submitted", "\"reject_reason\":\"No username\"",
	       "\"job_id\":null", NULL);

	one = share;
	one.nonce = "1ec4";
	one.sdiff = 1;
	submit(&client, &one);
	expect("firmware that leaves zeros out is judged by its work", "share_submitted",
	       "\"reject_reason\":\"Above target\"", "\"nonce\":\"00001ec4\"", NULL);
	one.nonce = "";
	submit(&client, &one);
	expect("nothing is no nonce", "share_submitted", "\"reject_reason\":\"No nonce\"", NULL);

	one = share;
	one.sdiff = 4000;
	one.hash = BLOCK;
	submit(&client, &one);
	expect("a block comes first, by the hash that its share has", "block_found",
	       "\"height\":102", "\"hash\":\"" BLOCK "\"", PROOF,
	       "\"difficulty\":4000.0,\"network_difficulty\":3000.0",
	       "\"reward_sats\":5000000100,\"fees_sats\":100,\"nonce\":\"7a1c03e2\"",
	       "\"coinbase_sig\":\"/TheBitcoinGame-dev/\"",
	       "\"prev_hash\":\"00000000002d1f5e6b7a8c9d0e1f2a3b4c5d6e7f8091b2c3d5e6f70718192a3b\"",
	       NULL);
	expect("then bests", "share_best_diff", "\"period\":\"session\"", NULL);
	expect("then bests", "share_best_diff", "\"period\":\"week\"", BLOCK, PROOF, NULL);
	expect("beyond what ckpool's records knew", "share_best_diff", "\"period\":\"alltime\"",
	       "\"previous_best_diff\":2000.0", PROOF, NULL);
	expect("then vardiff", "diff_updated", "\"new_diff\":2048.0", NULL);
	expect("then the share", "share_submitted", "\"valid\":true", BLOCK, NULL);
	one.duplicate = true;
	submit(&client, &one);
	expect("the block again, as a duplicate share alone", "share_submitted",
	       "\"reject_reason\":\"Duplicate\"", NULL);
	one.nonce = "bad00bad";
	one.hash = HASH;
	submit(&client, &one);
	expect("nor is a block one that the node refused", "share_submitted", NULL);
	submit_node_block(sdata, true);
	submit_node_block(sdata, false);
	parse_diff(&client, 2048);
#ifdef WITH_SV2
	stratifier_sv2_set_diff(&client, 4096);
	expect("from Stratum V2", "diff_updated", "\"old_diff\":2048.0,\"new_diff\":4096.0",
	       "\"reason\":\"sv2\"", NULL);
#endif
	statsupdate(NULL);
	expect("the user's total", "hashrate_update",
	       "\"worker\":\"\",\"hashrate_1m\":8589934592.0,\"hashrate_5m\":12884901888.0,"
	       "\"hashrate_1h\":17179869184.0,\"hashrate_24h\":21474836480.0", NULL);
	expect("the worker's, and none for the nameless one", "hashrate_update",
	       "\"worker\":\"rig\",\"hashrate_1m\":4294967296.0", NULL);

	client.reject = 3;
	__kill_instance(sdata, &client);
	expect("the session summed up", "miner_disconnected", "\"session_duration\":6",
	       "\"shares_accepted\":2,\"shares_rejected\":10,\"best_diff_session\":4000.0",
	       "\"reason\":\"continuous invalid shares\"", "\"client_id\":7", NULL);
	check(client.tbg.accepted == 0 && client.tbg.best == 0, "and the next one begins at zero");
#ifdef SHAPE_current
	stranger.subclients = &sub;
	drop_subclients(sdata, &stranger);
	expect("with what hangs on it", "miner_disconnected", "\"worker\":\"sub\"", NULL);
	add_instance_once(sdata, &stranger, true);
#else
	__kill_instance(sdata, &stranger);
#endif
	tbg_events_stop(5000);
	check(!receiver_next(fd, text), "nothing else came, so nothing came of strangers");
	close(fd);
	unlink(path);
	free(sdata);
	free(rig.workername);
	free(bare.workername);
	return finish();
}
