/*
 * Part of The Bitcoin Game's ckpool fork.
 * Copyright (C) 2026 The Bitcoin Game
 * SPDX-License-Identifier: GPL-3.0-or-later
 */

/* Six threads on the woven tree at once, as in the pool: they authorise, submit,
 * find blocks, wish for difficulties and leave, while one gives hash rates and the
 * sender sends. For the thread sanitizer. Compiled with the woven stratifier.c in
 * front, whose own counters are atomic, where upstream has locks. */

#include "stratifier.c"

#include <pthread.h>

#include "check.h"
#include "receiver.h"

#define MINERS 5
#define ROUNDS 300
#define AHEAD 300	/* solved blocks that wait: fewer than have a place of their own */
#define USER "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080"
#define HEADER \
	"00000020" \
	"1f0e9d8c7b6a5f4e3d2c1b0a99887766554433221100ffeeddccbbaa99887766" \
	"4a5e1e4baab89f3a32518a88c31bc87f618f76673e2cc77ab2127b7afdeda33b" \
	"41fd2069" "ffff7f20" "e2031c7a"

ckpool_t ckpool = { .name = "threads", .btcsig = "/TheBitcoinGame-dev/", .regtest = true };

static struct user_instance user = { .username = USER, .authorised = true, .dsps1 = 1 };
static struct genwork wb = { .height = 102, .coinbasevalue = 5000000100, .network_diff = 3000,
	.prevhash = "18192a3bd5e6f7078091b2c34c5d6e7f0e1f2a3b6b7a8c9d002d1f5e00000000" };
static _Atomic bool reading = true;
static _Atomic long received, blocks, shares, given;

void logmsg(int loglevel, const char *fmt, ...)
{
	(void)loglevel;
	(void)fmt;
}

static void *mine(void *argument)
{
	long me = (long)(intptr_t)argument, round;
	struct worker_instance rig = { .mindiff = 2 };
	struct submission share = { .workername = USER ".rig", .job_id = "6920fd40",
		.nonce2 = "00000029", .ntime = "6920fd41", .header = HEADER,
		.coinbase = "01000000010000" };
	char hash[65], nonce[9];

	for (round = 0; round < ROUNDS; round++) {
		struct stratum_instance client = {
			.id = me, .diff = 1, .start_time = time(NULL), .address = "192.0.2.17",
			.user_instance = &user, .worker_instance = &rig, .sdata = ckpool.sdata,
			.useragent = strdup("bitaxe"), .workername = strdup(USER ".rig") };
		enum share_err err;
		int i;

		sauth_process(&client);
		suggest_diff(&client, "mining.suggest_difficulty", 4);
		for (i = 0; i < 8; i++) {
			snprintf(hash, sizeof(hash), "%048lx%08lx%08x", me, round, i);
			snprintf(nonce, sizeof(nonce), "%s%04lx", i == 6 ? "dead" : "7a1c", round);
			share.hash = hash;
			share.nonce = nonce;
			share.sdiff = i < 5 ? 10 * i + 1 : 4000;
			parse_submit(&client, &share, &err);
		}
		__kill_instance(ckpool.sdata, &client);
		/* No pool finds them so fast that a busy machine's listener falls behind. */
		given += 3;
		for (i = 0; i < 60000 && blocks + AHEAD < given; i++)
			usleep(1000);
	}
	return NULL;
}

static void *minutes(void *unused)
{
	int i;

	for (i = 0; i < ROUNDS; i++)
		statsupdate(unused);
	return NULL;
}

static void *listen_to(void *argument)
{
	static char text[TBG_DATAGRAM_MAX + 1];

	while (reading) {
		if (!receiver_next(*(int *)argument, text))
			continue;
		received++;
		shares += strstr(text, "\"share_submitted\"") != NULL;
		blocks += strstr(text, "\"block_found\"") != NULL;
	}
	return NULL;
}

int main(void)
{
	pthread_t threads[MINERS + 1], listener;
	struct tbg_counts counts;
	char path[64];
	long i;
	int fd;

	snprintf(path, sizeof(path), "/tmp/tbg-threads-%d.sock", (int)getpid());
	setenv("TBG_EVENTS_SOCKET", path, 1);
	setenv("TBG_EVENTS_STATE", "", 1);
	fd = receiver_open(path);
	stratifier(NULL);
	((pool_data_t *)ckpool.sdata)->user_instances = &user;
	snprintf(((pool_data_t *)ckpool.sdata)->lastswaphash, 65, "%064d", 1);
	block_update(ckpool.sdata, &wb);
	pthread_create(&listener, NULL, listen_to, &fd);
	for (i = 0; i < MINERS; i++)
		pthread_create(&threads[i], NULL, mine, (void *)(intptr_t)(i + 1));
	pthread_create(&threads[MINERS], NULL, minutes, NULL);
	for (i = 0; i <= MINERS; i++)
		pthread_join(threads[i], NULL);
	/* What the other shapes and the play need. */
	submit_node_block(ckpool.sdata, false);
	drop_subclients(ckpool.sdata, &(struct stratum_instance){ 0 });
	add_instance_once(ckpool.sdata, NULL, false);
	parse_diff(&(struct stratum_instance){ 0 }, 2);
	tbg_events_stop(60000);
	for (i = 0; i < 100; i++) {
		tbg_events_counts(&counts);
		if (received == (long)counts.sent)
			break;
		usleep(20000);
	}
	reading = false;
	pthread_join(listener, NULL);
	check(received == (long)counts.sent && counts.sent + counts.lost_full == counts.emitted,
	      "every event is received or a counted loss (%ld, %llu lost)", (long)received,
	      (unsigned long long)counts.lost_full);
	check(counts.lost_full > 0 || shares == MINERS * ROUNDS * 8, "every share came (%ld)",
	      (long)shares);
	check(blocks == MINERS * ROUNDS * 3, "every block came, once (%ld)", (long)blocks);
	close(fd);
	unlink(path);
	return finish();
}
