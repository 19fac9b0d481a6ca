/*
 * Part of The Bitcoin Game's ckpool fork.
 * Copyright (C) 2026 The Bitcoin Game
 * SPDX-License-Identifier: GPL-3.0-or-later
 */

/* A pool of 50,000 workers: once a minute it gives the hash rate of each in one
 * loop, while shares come in and the receiver is slow or gone. No share, best or
 * block may be lost for a hash rate, or wait for one.
 *
 * Usage: test_rates [workers] */

#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#include "check.h"
#include "receiver.h"
#include "tbg_events.h"

#define USER "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080"
#define ON_THE_WAY 300	/* datagrams that the socket may hold at most: see TBG_KEPT */
#define SHARES 4000	/* in a burst: far fewer than the ring holds */

static int workers = 50000;
static char path[64], text[TBG_DATAGRAM_MAX + 1];
static int fd;
static long shares, blocks, rates, strange, last_share, arrived, gaps, last_seq;

static void quiet(int level, const char *format, ...)
{
	(void)level;
	(void)format;
}

/* As statsupdate() does: every user, every worker, without a pause. */
static void *minute(void *rounds)
{
	char name[80];
	intptr_t round;
	int i;

	for (round = 0; round < (intptr_t)rounds; round++) {
		for (i = 0; i < workers; i++) {
			snprintf(name, sizeof(name), USER ".%d", i);
			tbg_hashrate_update(&(struct tbg_hashrate){
				.user = USER, .workername = name, .dsps_1m = i + 1, .dsps_5m = i,
				.dsps_1h = i, .dsps_24h = i });
		}
	}
	return NULL;
}

static void *mining(void *first)
{
	struct tbg_session session = { 0 };
	struct timespec pause = { 0, 10000 };
	char words[65];
	long i;

	for (i = 0; i < SHARES; i++) {
		if (i % 100 == 0)
			nanosleep(&pause, NULL);
		if (i % 1000 == 999) {
			snprintf(words, sizeof(words), "%064lx", (long)(intptr_t)first + i);
			tbg_block_found(&(struct tbg_block){ .user = USER, .workername = USER,
				.hash_words = words, .share_diff = 9, .network_diff = 9 });
		}
		tbg_share_submitted(&session, &(struct tbg_share){
			.user = USER, .workername = USER ".rig", .diff = 1, .share_diff = 2,
			.valid = true, .job_id = "1", .nonce = "7a1c03e2", .nonce2 = "00" });
	}
	return NULL;
}

/* Everything that comes until nothing does for a while. */
static void receive(void)
{
	int silence = 0;
	long seq;

	shares = blocks = rates = strange = last_share = arrived = gaps = 0;
	while (more_to_come(silence)) {
		if (!receiver_next(fd, text)) {
			silence++;
			continue;
		}
		silence = 0;
		arrived++;
		seq = number_after(text, "\"seq\":");
		gaps += seq - last_seq - 1;
		last_seq = seq;
		if (strstr(text, "\"hashrate_update\"")) {
			rates++;
			continue;
		}
		last_share = arrived;
		if (strstr(text, "\"share_submitted\""))
			shares++;
		else if (strstr(text, "\"block_found\""))
			blocks++;
		else
			strange++;
	}
}

/* So many minutes at once, with shares in between, while nobody receives. */
static void burst(intptr_t minutes, intptr_t first)
{
	pthread_t statistics, miner;

	pthread_create(&statistics, NULL, minute, (void *)minutes);
	pthread_create(&miner, NULL, mining, (void *)first);
	pthread_join(statistics, NULL);
	pthread_join(miner, NULL);
}

int main(int argc, char **argv)
{
	struct tbg_counts before, after;

	if (argc > 1)
		workers = atoi(argv[1]);
	snprintf(path, sizeof(path), "/tmp/tbg-rates-%d.sock", (int)getpid());
	setenv("TBG_EVENTS_SOCKET", path, 1);
	setenv("TBG_EVENTS_STATE", "", 1);
	fd = receiver_open(path);
	if (!check(tbg_events_start("rates", NULL, quiet), "events start"))
		return finish();

	burst(1, 1);
	receive();
	tbg_events_counts(&before);
	check(shares == SHARES && blocks == SHARES / 1000 && strange == 0,
	      "every share and block came (%ld, %ld)", shares, blocks);
	check(rates == workers && before.lost_full == 0, "and every hash rate (%ld)", rates);
	check(last_share <= SHARES + SHARES / 1000 + ON_THE_WAY,
	      "shares overtook hash rates that waited (the last was the %ldth of %ld)", last_share,
	      arrived);

	burst(5, 100001);
	receive();
	tbg_events_counts(&after);
	check(shares == SHARES && blocks == SHARES / 1000,
	      "five minutes without a receiver cost no share and no block (%ld, %ld)", shares, blocks);
	check(after.lost_full > 0 && after.lost_full == after.lost_rates,
	      "but %llu hash rates, which are counted", (unsigned long long)after.lost_rates);
	check(rates + (long)after.lost_rates == 5 * workers, "and the others came (%ld)", rates);
	mining((void *)200001);
	receive();
	check(shares == SHARES && last_seq == (long)after.emitted + SHARES + SHARES / 1000,
	      "every loss is a gap in seq (the last is %ld)", last_seq);
	tbg_events_stop(5000);
	close(fd);
	unlink(path);
	return finish();
}
