/*
 * Part of The Bitcoin Game's ckpool fork.
 * Copyright (C) 2026 The Bitcoin Game
 * SPDX-License-Identifier: GPL-3.0-or-later
 */

/* What is rare yields to nobody: blocks, bests, connects and disconnects, while
 * shares fill the ring, or strangers connect again and again. */

#include <stdlib.h>
#include <unistd.h>

#include "check.h"
#include "emit.h"
#include "receiver.h"

#define HASH "00000000002d1f5e6b7a8c9d0e1f2a3b4c5d6e7f8091a2b3c4d5e6f708192a3b"
#define MANY 50000

static char path[64], text[TBG_DATAGRAM_MAX + 1];
static int fd = -1;
static long shares, blocks, bests, connects, disconnects, others, last_seq, gaps, repeated;
static unsigned char block_seen[MANY];

static void appear(void)
{
	fd = receiver_open(path);
}

static void vanish(void)
{
	close(fd);
	unlink(path);
}

/* The first eight digits of the hash: the last word of ckpool's text. */
static long hex_after_hash(void)
{
	char digits[9] = "";

	memcpy(digits, strstr(text, "\"hash\":\"") + 8, 8);
	return strtol(digits, NULL, 16);
}

/* Everything that comes until nothing does for half a second. */
static void receive(void)
{
	long long number, seq;
	int silence = 0;

	shares = blocks = bests = connects = disconnects = others = repeated = 0;
	while (more_to_come(silence)) {
		if (!receiver_next(fd, text)) {
			silence++;
			continue;
		}
		silence = 0;
		seq = number_after(text, "\"seq\":");
		if (seq <= last_seq) {
			repeated++;	/* sent again to a new receiver */
			continue;
		}
		gaps += seq - last_seq - 1;
		last_seq = seq;
		if (strstr(text, "\"share_submitted\"")) {
			shares++;
		} else if (strstr(text, "\"block_found\"")) {
			blocks++;
			number = hex_after_hash() - 1;
			if (number >= 0 && number < MANY)
				block_seen[number]++;
		} else if (strstr(text, "\"share_best_diff\"")) {
			bests++;
		} else if (strstr(text, "\"miner_connected\"")) {
			connects++;
		} else if (strstr(text, "\"miner_disconnected\"")) {
			disconnects++;
		} else {
			others++;
		}
	}
}

static void full_of_shares(void)
{
	struct tbg_session session = { 0 };
	struct tbg_counts counts;
	long i;

	for (i = 0; i < 20000; i++)
		emit_share(i);
	tbg_events_counts(&counts);
	check(counts.lost_full > 0, "without a receiver the ring is full (%llu shares lost)",
	      (unsigned long long)counts.lost_full);
	emit_connected(USER);
	tbg_share_accepted(&session, USER, USER ".rig", 4821, HASH);
	emit_block(0);
	tbg_miner_disconnected(&session, &(struct tbg_disconnected){
		.user = USER, .workername = USER ".rig", .client_id = 7 });
	for (i = 1; i < 1000; i++)
		emit_share(i);
	emit_block(0);
	appear();
	receive();
	check(blocks == 1 && block_seen[0] == 1, "a block comes, once (%ld)", blocks);
	check(bests == 3, "so do the bests of session, week and all time (%ld)", bests);
	check(connects == 1 && disconnects == 1, "and who came and went (%ld, %ld)", connects,
	      disconnects);
	check(shares >= 16384, "and the shares that the ring holds (%ld)", shares);
	emit_block(0);
	receive();
	check(blocks == 0, "the block again is silent");
	vanish();
}

static void full_of_everything(void)
{
	struct tbg_counts before, after;
	long i, lost = 0;

	tbg_events_counts(&before);
	for (i = 1; i < MANY - 1; i++)
		emit_block(i);
	tbg_events_counts(&after);
	check(after.lost_full > before.lost_full && after.lost_rates == before.lost_rates,
	      "even blocks are lost when there are tens of thousands (%llu)",
	      (unsigned long long)(after.lost_full - before.lost_full));
	appear();
	receive();
	for (i = 1; i < MANY - 1; i++)
		lost += !block_seen[i];
	check(lost == (long)(after.lost_full - before.lost_full), "the others come (%ld lost)", lost);
	for (i = 1; i < MANY - 1; i++) {
		if (!block_seen[i])
			emit_block(i);
		if (i % 4096 == 0)
			receive();
	}
	receive();
	for (i = lost = 0; i < MANY - 1; i++)
		lost += block_seen[i] != 1;
	check(lost == 0, "and a block that found no place comes when it is submitted again (%ld)", lost);
	vanish();
}

static void strangers(void)
{
	struct tbg_session session;
	char user[32];
	long i;

	for (i = 0; i < 30000; i++) {
		snprintf(user, sizeof(user), "stranger%ld", i);
		emit_connected(user);
	}
	for (i = 0; i < 2000; i++) {
		snprintf(user, sizeof(user), "stranger%ld", i);
		memset(&session, 0, sizeof(session));
		tbg_share_accepted(&session, user, user, 1 + (double)i, NULL);
	}
	emit_connected(USER);
	memset(block_seen, 0, sizeof(block_seen));
	for (i = MANY - 1; i < MANY + 500; i++)
		emit_block(i);
	appear();
	receive();
	check(connects >= 16384 && connects < 30001, "a flood of strangers loses strangers (%ld came)",
	      connects);
	check(blocks == 501, "and no block (%ld)", blocks);
	check(bests >= 3000, "and few bests (%ld)", bests);
}

#define THREADS 8
#define EACH 2000

static pthread_barrier_t together;

static void *submit_the_same(void *first)
{
	long i;

	for (i = 0; i < EACH; i++) {
		pthread_barrier_wait(&together);
		emit_block((long)(intptr_t)first + i);
	}
	return NULL;
}

static void at_once(void)
{
	pthread_t threads[THREADS];
	struct tbg_counts counts;
	int i;

	pthread_barrier_init(&together, NULL, THREADS);
	for (i = 0; i < THREADS; i++)
		pthread_create(&threads[i], NULL, submit_the_same, (void *)(intptr_t)(MANY + 5000));
	for (i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	receive();
	check(blocks == EACH, "%d threads with the same blocks make one event of each (%ld)", THREADS,
	      blocks);
	tbg_events_counts(&counts);
	check(last_seq == (long)counts.emitted && gaps == (long)counts.lost_full,
	      "every number is an event or a counted loss (%ld, %ld lost)", last_seq, gaps);
}

static _Atomic bool digging = true;

static void *dig(void *argument)
{
	struct tbg_session session = { 0 };
	char user[32], hash[65];
	struct tbg_counts counts;
	long i;

	for (i = 1; digging && i < 4000; i++) {
		snprintf(user, sizeof(user), "digger%ld", (long)(intptr_t)argument);
		snprintf(hash, sizeof(hash), "%056lx%08lx", (long)(intptr_t)argument, i);
		tbg_share_accepted(&session, user, user, (double)i, hash);
		tbg_share_submitted(&session, &(struct tbg_share){
			.user = user, .workername = user, .diff = 1, .share_diff = (double)i,
			.valid = true, .job_id = "1", .nonce = "7a1c03e2", .nonce2 = "00",
			.hash = hash });
		/* So that none is lost, which would look as if it came late. */
		do {
			tbg_events_counts(&counts);
		} while (counts.emitted - counts.sent - counts.lost_full > 4000 && !usleep(1000));
	}
	return NULL;
}

/* A share's bests come before it. */
static void in_order(void)
{
	static long best_of[4];
	long wrong = 0, seen = 0, number, thread;
	pthread_t threads[3];
	int i, silence = 0;

	for (i = 0; i < 3; i++)
		pthread_create(&threads[i], NULL, dig, (void *)(intptr_t)(i + 1));
	while (more_to_come(silence)) {
		if (!receiver_next(fd, text)) {
			silence++;
			continue;
		}
		silence = 0;
		thread = strtol(strstr(text, "digger") + 6, NULL, 10);
		number = strtol(strstr(text, "\"hash\":\"") + 8 + 56, NULL, 16);
		if (strstr(text, "\"period\":\"alltime\""))
			best_of[thread] = number;
		if (strstr(text, "\"share_submitted\"")) {
			seen++;
			wrong += best_of[thread] < number;
		}
	}
	digging = false;
	for (i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
	check(seen > 0 && wrong == 0, "bests come before their shares (%ld of %ld did not)", wrong, seen);
}

int main(void)
{
	snprintf(path, sizeof(path), "/tmp/tbg-rare-%d.sock", (int)getpid());
	setenv("TBG_EVENTS_SOCKET", path, 1);
	setenv("TBG_EVENTS_STATE", "", 1);
	if (!check(tbg_events_start("rare", NULL, keep_log), "events start"))
		return finish();
	full_of_shares();
	full_of_everything();
	strangers();
	at_once();
	in_order();
	tbg_events_stop(5000);
	vanish();
	return finish();
}
