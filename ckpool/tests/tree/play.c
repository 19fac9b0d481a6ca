/*
 * Part of The Bitcoin Game's ckpool fork.
 * Copyright (C) 2026 The Bitcoin Game
 * SPDX-License-Identifier: GPL-3.0-or-later
 */

/* Plays a pool's day on the woven tree, and compares all that comes out of the
 * socket, every field of it, with what must come. Compiled with the woven
 * stratifier.c in front, for each shape of the tree. No two of the miner's
 * properties are alike, so none can stand for another. */

#include "stratifier.c"

#include <pthread.h>

#include "check.h"
#include "receiver.h"

/* Older trees pass the pool along. */
#ifdef SHAPE_solo
#define SHAPE_older
#endif
#ifdef SHAPE_older
#define POOL &ckpool,
#define FEES
#else
#define POOL
#define FEES ",\"fees_sats\":100"
#endif

#define USER "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080"
#define OTHER "bcrt1qrp33g0q5c5txsp9arysrx4k6zdkfs4nce4xj0gdcccefvpysxf3qzf4jry"
#define HASH "00000000002d1f5e6b7a8c9d0e1f2a3b4c5d6e7f8091a2b3c4d5e6f708192a3b"
#define BLOCK "00000000001111112222222233333333444444445555555566666666777777ff"
#define LOST "000000000022222233333333444444445555555566666666777777778888880f"
#define TWICE "000000000033333344444444555555556666666677777777888888889999991f"
#define TIP "0000000000a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b"
#define BEFORE "00000000002d1f5e6b7a8c9d0e1f2a3b4c5d6e7f8091b2c3d5e6f70718192a3b"
#define HEADER \
	"00000020" \
	"1f0e9d8c7b6a5f4e3d2c1b0a99887766554433221100ffeeddccbbaa99887766" \
	"4a5e1e4baab89f3a32518a88c31bc87f618f76673e2cc77ab2127b7afdeda33b" \
	"41fd2069" "ffff7f20" "e2031c7a"
#define COINBASE "01000000010000"
#define NODE_0 "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
#define NODE_1 "ffeeddccbbaa99887766554433221100ffeeddccbbaa99887766554433221100"
#define PROOF ",\"proof\":{\"header\":\"" HEADER "\",\"branch\":[\"" NODE_0 "\",\"" NODE_1 \
	"\"],\"coinbase\":\"" COINBASE "\"}"

#define MINER "\"user\":\"" USER "\",\"worker\":\"rig\""
#define DIFF(from, to, why) "{" MINER ",\"old_diff\":" from ",\"new_diff\":" to \
	",\"client_id\":7,\"reason\":\"" why "\"}"
#define BEST(period, best, before, hash, count, proof) "{" MINER ",\"new_best_diff\":" best \
	",\"previous_best_diff\":" before ",\"period\":\"" period "\",\"week\":\"*\",\"hash\":\"" \
	hash "\",\"week_shares\":" count proof "}"
#define VERDICT(diff, achieved, valid, reason) "{" MINER ",\"difficulty\":" diff \
	",\"share_diff\":" achieved ",\"valid\":" valid ",\"reject_reason\":" reason
#define SHARE(diff, achieved, valid, reason, job, nonce, hash) \
	VERDICT(diff, achieved, valid, reason) ",\"job_id\":\"" job "\",\"nonce\":\"" nonce \
	"\",\"nonce2\":\"00000029\",\"ip\":\"192.0.2.17\",\"client_id\":7," \
	"\"ntime\":\"6920fd41\",\"hash\":" hash ",\"user_agent\":\"bitaxe\"," \
	"\"version_bits\":\"00002000\",\"network_difficulty\":3000.0}"
#define UNREADABLE(diff, reason) VERDICT(diff, "null", "false", reason) ",\"job_id\":null," \
	"\"nonce\":null,\"nonce2\":null,\"ip\":\"192.0.2.17\",\"client_id\":7," \
	"\"ntime\":null,\"hash\":null,\"user_agent\":\"bitaxe\"}"
#define FOUND(hash, achieved, nonce) "{" MINER ",\"height\":152,\"hash\":\"" hash \
	"\",\"prev_hash\":\"" BEFORE "\",\"difficulty\":" achieved \
	",\"network_difficulty\":3000.0,\"reward_sats\":2500000100" FEES ",\"nonce\":\"" nonce \
	"\",\"coinbase_sig\":\"/TheBitcoinGame-dev/\"" PROOF "}"
#define RATES(user, worker, m1, m5, h1, h24) "{\"user\":\"" user "\",\"worker\":\"" worker \
	"\",\"hashrate_1m\":" m1 ",\"hashrate_5m\":" m5 ",\"hashrate_1h\":" h1 \
	",\"hashrate_24h\":" h24 "}"
#define QUIET(user, worker) RATES(user, worker, "0.0", "0.0", "0.0", "0.0")

ckpool_t ckpool = { .name = "mini", .btcsig = "/TheBitcoinGame-dev/", .regtest = true };

static char text[TBG_DATAGRAM_MAX + 1];
static int fd;
static long long last_seq;

void logmsg(int loglevel, const char *fmt, ...)
{
	(void)loglevel;
	(void)fmt;
}

/* Whether the text is the wanted one; a '*' stands for anything without a quote,
 * comma or brace. */
static bool is_like(const char *got, const char *wanted)
{
	for (; *wanted; wanted++) {
		if (*wanted == '*')
			got += strcspn(got, "\",}");
		else if (*got++ != *wanted)
			return false;
	}
	return !*got;
}

/* The next datagram is that event, with exactly that data. */
static void expect(const char *sentence, const char *event, const char *data)
{
	char wanted[TBG_DATAGRAM_MAX + 200];
	int tries;

	for (tries = 0; tries < 500 && !receiver_next(fd, text); tries++)
		strcpy(text, "nothing came");
	snprintf(wanted, sizeof(wanted), "{\"event\":\"%s\",\"timestamp\":*,\"source\":\"hosted\","
		 "\"instance\":\"mini/*\",\"seq\":%lld,\"data\":%s}", event, ++last_seq, data);
	if (!check(is_like(text, wanted), "%s: %s", event, sentence))
		printf("#    got %s\n# wanted %s\n", text, wanted);
}

static bool submit(struct stratum_instance *client, struct submission *submission)
{
	enum share_err err = SE_NONE;

	return parse_submit(POOL client, submission, &err);
}

static struct submission good(void)
{
	return (struct submission){
		.workername = USER ".rig", .job_id = "6920fd40", .nonce = "7a1c03e2",
		.nonce2 = "00000029", .ntime = "6920fd41", .hash = HASH, .header = HEADER,
		.coinbase = COINBASE, .sdiff = 600, .version_mask = 0x2000 };
}

static void refusals(struct stratum_instance *client)
{
	struct submission one = good();

	submit(client, &one);
	expect("too easy now", "share_submitted",
	       SHARE("1024.0", "600.0", "false", "\"Above target\"", "6920fd40", "7a1c03e2",
		     "\"" HASH "\""));
	one.job_id = "unheard of";
	submit(client, &one);
	expect("work that is gone", "share_submitted",
	       SHARE("1024.0", "null", "false", "\"Invalid JobID\"", "unheard of", "7a1c03e2",
		     "null"));
	one.job_id = "5920fd40";
	submit(client, &one);
	expect("work of the block before", "share_submitted",
	       SHARE("1024.0", "600.0", "false", "\"Stale\"", "5920fd40", "7a1c03e2",
		     "\"" HASH "\""));
	one = good();
	one.sdiff = 2500;
	one.duplicate = true;
	submit(client, &one);
	expect("a duplicate breaks no best", "share_submitted",
	       SHARE("1024.0", "2500.0", "false", "\"Duplicate\"", "6920fd40", "7a1c03e2",
		     "\"" HASH "\""));
	one.workername = "";
	submit(client, &one);
	expect("malformed", "share_submitted", UNREADABLE("1024.0", "\"No username\""));
	one = good();
	one.nonce = "1ec4";
	one.sdiff = 1;
	submit(client, &one);
	expect("firmware that leaves zeros out is judged by its work", "share_submitted",
	       SHARE("1024.0", "1.0", "false", "\"Above target\"", "6920fd40", "00001ec4",
		     "\"" HASH "\""));
	one.nonce = "";
	submit(client, &one);
	expect("nothing is no nonce", "share_submitted", UNREADABLE("1024.0", "\"No nonce\""));
}

static void blocks(struct stratum_instance *client)
{
	struct submission one = good();

	one.sdiff = 4000;
	one.hash = BLOCK;
	submit(client, &one);
	expect("a block comes first, by the hash that its share has", "block_found",
	       FOUND(BLOCK, "4000.0", "7a1c03e2"));
	expect("then bests", "share_best_diff", BEST("session", "4000.0", "600.0", BLOCK, "2", ""));
	expect("then bests", "share_best_diff", BEST("week", "4000.0", "600.0", BLOCK, "2", PROOF));
	expect("beyond what ckpool's records knew", "share_best_diff",
	       BEST("alltime", "4000.0", "2000.0", BLOCK, "2", PROOF));
	expect("then vardiff", "diff_updated", DIFF("1024.0", "2048.0", "vardiff"));
	expect("then the share", "share_submitted",
	       SHARE("1024.0", "4000.0", "true", "null", "6920fd40", "7a1c03e2", "\"" BLOCK "\""));
	one.duplicate = true;
	submit(client, &one);
	expect("the block again, as a duplicate share alone", "share_submitted",
	       SHARE("2048.0", "4000.0", "false", "\"Duplicate\"", "6920fd40", "7a1c03e2",
		     "\"" BLOCK "\""));
	one.nonce = "bad00bad";
	one.hash = HASH;
	submit(client, &one);
	expect("nor is a block one that the node refused", "share_submitted",
	       SHARE("2048.0", "4000.0", "false", "\"Duplicate\"", "6920fd40", "bad00bad",
		     "\"" HASH "\""));
	one.nonce = "dead0001";
	one.hash = LOST;
	submit(client, &one);
	expect("one whose answer got lost is reported", "block_found",
	       FOUND(LOST, "4000.0", "dead0001"));
	expect("before its share", "share_submitted",
	       SHARE("2048.0", "4000.0", "false", "\"Duplicate\"", "6920fd40", "dead0001",
		     "\"" LOST "\""));
	submit(client, &one);
	expect("once", "share_submitted",
	       SHARE("2048.0", "4000.0", "false", "\"Duplicate\"", "6920fd40", "dead0001",
		     "\"" LOST "\""));
	one.nonce = "bad00bad";
	one.hash = HASH;
	submit(client, &one);
	expect("and the next refusal is one again", "share_submitted",
	       SHARE("2048.0", "4000.0", "false", "\"Duplicate\"", "6920fd40", "bad00bad",
		     "\"" HASH "\""));
	one.nonce = "d0b1e001";
	one.hash = TWICE;
	submit(client, &one);
	expect("a node that has it already took it", "block_found",
	       FOUND(TWICE, "4000.0", "d0b1e001"));
	expect("before its share", "share_submitted",
	       SHARE("2048.0", "4000.0", "false", "\"Duplicate\"", "6920fd40", "d0b1e001",
		     "\"" TWICE "\""));
}

static void rates(struct user_instance *user, struct user_instance *other)
{
	struct worker_instance *worker;

	statsupdate(&ckpool);
	expect("the user's total", "hashrate_update",
	       RATES(USER, "", "8589934592.0", "12884901888.0", "17179869184.0", "21474836480.0"));
	expect("the worker's, and none for the nameless one", "hashrate_update",
	       RATES(USER, "rig", "30064771072.0", "34359738368.0", "38654705664.0",
		     "42949672960.0"));
	expect("the other worker's", "hashrate_update",
	       RATES(USER, "two", "51539607552.0", "55834574848.0", "60129542144.0",
		     "64424509440.0"));
	expect("another user's", "hashrate_update",
	       RATES(OTHER, "", "73014444032.0", "77309411328.0", "81604378624.0", "85899345920.0"));
	expect("and who has none says so", "hashrate_update", QUIET(OTHER, "spare"));
	for (worker = user->worker_instances; worker; worker = worker->next)
		worker->dsps1 = worker->dsps5 = worker->dsps60 = worker->dsps1440 = 0;
	user->dsps1 = user->dsps5 = user->dsps60 = user->dsps1440 = 1e-11;
	other->dsps1 = 0;
	statsupdate(&ckpool);
	expect("who ceased is said", "hashrate_update",
	       RATES(USER, "", "*", "*", "*", "*"));
	expect("who ceased is said", "hashrate_update", QUIET(USER, "rig"));
	expect("who ceased is said", "hashrate_update", QUIET(USER, "two"));
	expect("the one who goes on goes on", "hashrate_update",
	       RATES(OTHER, "", "0.0", "77309411328.0", "81604378624.0", "85899345920.0"));
	user->dsps5 = 0.5;
	statsupdate(&ckpool);
	expect("once, and who comes back is said", "hashrate_update",
	       RATES(USER, "", "*", "2147483648.0", "*", "*"));
	expect("beside who goes on", "hashrate_update",
	       RATES(OTHER, "", "0.0", "77309411328.0", "81604378624.0", "85899345920.0"));
}

int main(void)
{
	struct worker_instance two = { .workername = strdup(USER ".two"), .dsps1 = 12, .dsps5 = 13,
				       .dsps60 = 14, .dsps1440 = 15, .dsps10080 = 16 };
	struct worker_instance rig = { .workername = strdup(USER ".rig"), .next = &two, .mindiff = 8,
				       .dsps1 = 7, .dsps5 = 8, .dsps60 = 9, .dsps1440 = 10,
				       .dsps10080 = 11 };
	struct worker_instance bare = { .workername = strdup(USER), .next = &rig, .dsps1 = 33 };
	struct worker_instance spare = { .workername = strdup(OTHER ".spare") };
	struct user_instance other = { .username = OTHER, .authorised = true,
				       .worker_instances = &spare, .dsps1 = 17, .dsps5 = 18,
				       .dsps60 = 19, .dsps1440 = 20, .dsps10080 = 21 };
	struct user_instance user = { .hh.next = &other, .username = USER, .best_ever = 2000,
				      .worker_instances = &bare, .dsps1 = 2, .dsps5 = 3,
				      .dsps60 = 4, .dsps1440 = 5, .dsps10080 = 6 };
	struct genwork wb = { .height = 152, .coinbasevalue = 2500000100, .network_diff = 3000,
			  .prevhash = "18192a3bd5e6f7078091b2c34c5d6e7f0e1f2a3b6b7a8c9d002d1f5e00000000" };
	struct genwork next = { .height = 153, .network_diff = 3500 };
	struct submission share = good();
	struct stratum_instance client = {
		.id = 7, .diff = 1, .start_time = time(NULL) - 60, .address = "192.0.2.17",
		.user_instance = &user, .worker_instance = &rig, .useragent = strdup("bitaxe"),
		.workername = strdup(USER ".rig"),
	};
	struct stratum_instance stranger = { .user_instance = &user,
					     .workername = strdup(USER ".stranger") };
	struct stratum_instance remote = { .user_instance = &user, .remote = true, .id = 9,
					   .diff = 5, .workername = strdup(USER ".far") };
#ifdef SHAPE_current
	struct stratum_instance sub = { .user_instance = &user, .authorised = true, .id = 8,
					.address = "192.0.2.18", .start_time = time(NULL) - 60,
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
	stratifier(&ckpool);
	sdata = client.sdata = ckpool.sdata;
	sdata->user_instances = &user;
	stranger.sdata = remote.sdata = sdata;
	snprintf(sdata->lastswaphash, sizeof(sdata->lastswaphash), "%s", HASH);

	client_auth(POOL &stranger, &user, false);
	client_auth(POOL &remote, &user, true);
	sauth_process(POOL &client);
	expect("once the miner authorised", "miner_connected",
	       "{" MINER ",\"ip\":\"192.0.2.17\",\"initial_diff\":1.0,\"client_id\":7,"
	       "\"user_agent\":\"bitaxe\",\"protocol\":\"stratum_v1\"}");
	expect("the worker's own minimum", "diff_updated", DIFF("1.0", "8.0", "mindiff"));
#ifndef SHAPE_older
	submit(&client, &share);
	expect("before there is work", "share_submitted", UNREADABLE("8.0", "\"No workbase\""));
#endif
	block_update(POOL NULL, NULL);
	block_update(POOL sdata, &wb);
	expect("the tip, one below the work", "new_block_network",
	       "{\"height\":151,\"hash\":\"" HASH "\",\"network_difficulty\":3000.0}");
	block_update(POOL sdata, &wb);
	suggest_diff(POOL &client, "mining.suggest_difficulty", 512);
	expect("new work on the same tip is silent; the miner's wish", "diff_updated",
	       DIFF("8.0", "512.0", "suggest"));

	check(submit(&client, &share), "a good share is accepted");
	expect("of the session, which nobody else sees, so without proof", "share_best_diff",
	       BEST("session", "600.0", "0.0", HASH, "1", ""));
	expect("of the week", "share_best_diff", BEST("week", "600.0", "0.0", HASH, "1", PROOF));
	expect("vardiff", "diff_updated", DIFF("512.0", "1024.0", "vardiff"));
	expect("accepted, at the difficulty it was mined for", "share_submitted",
	       SHARE("512.0", "600.0", "true", "null", "6920fd40", "7a1c03e2", "\"" HASH "\""));
	refusals(&client);
	blocks(&client);
	submit_node_block(POOL sdata, true);
	submit_node_block(POOL sdata, false);
	parse_diff(&client, 2048);
#ifdef WITH_SV2
#ifndef SHAPE_older
	stratifier_sv2_set_diff(&client, 4096);
	expect("from Stratum V2", "diff_updated", DIFF("2048.0", "4096.0", "sv2"));
#endif
#endif
#ifdef SHAPE_solo
	suggest_diff(POOL &client, "mining.suggest_difficulty", 0.015625);
	expect("below 1, where the pool knows fractions", "diff_updated",
	       DIFF("2048.0", "0.015625", "suggest"));
#endif
	snprintf(sdata->lastswaphash, sizeof(sdata->lastswaphash), "%s", TIP);
	block_update(POOL sdata, &next);
	expect("the next tip", "new_block_network",
	       "{\"height\":152,\"hash\":\"" TIP "\",\"network_difficulty\":3500.0}");
	rates(&user, &other);

	client.reject = 3;
	__kill_instance(POOL sdata, &client);
	expect("the session summed up", "miner_disconnected",
	       "{" MINER ",\"session_duration\":6*,\"client_id\":7,\"ip\":\"192.0.2.17\","
	       "\"shares_accepted\":2,\"shares_rejected\":"
#ifdef SHAPE_older
	       "13"
#else
	       "14"
#endif
	       ",\"best_diff_session\":4000.0,\"reason\":\"continuous invalid shares\"}");
	check(client.tbg.accepted == 0 && client.tbg.best == 0, "and the next one begins at zero");
	__kill_instance(POOL sdata, &remote);
#ifdef SHAPE_current
	stranger.subclients = &sub;
	drop_subclients(POOL sdata, &stranger);
	expect("with what hangs on it", "miner_disconnected",
	       "{\"user\":\"" USER "\",\"worker\":\"sub\",\"session_duration\":6*,\"client_id\":8,"
	       "\"ip\":\"192.0.2.18\",\"shares_accepted\":0,\"shares_rejected\":0,"
	       "\"best_diff_session\":0.0,\"reason\":null}");
	add_instance_once(POOL sdata, &stranger, true);
#else
	__kill_instance(POOL sdata, &stranger);
#endif
	tbg_events_stop(5000);
	check(!receiver_next(fd, text), "nothing else came, so nothing came of strangers");
	check(number_after(receiver_status, "\"last_seq\":") == last_seq &&
	      strstr(receiver_status, "\"state\":\"ended\""), "and the end is said");
	close(fd);
	unlink(path);
	free(sdata);
	free(rig.workername);
	free(two.workername);
	free(bare.workername);
	free(spare.workername);
	return finish();
}
