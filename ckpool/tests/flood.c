/*
 * Part of The Bitcoin Game's ckpool fork.
 * Copyright (C) 2026 The Bitcoin Game
 * SPDX-License-Identifier: GPL-3.0-or-later
 */

/* Sends shares through the whole module to a receiver, as a pool would,
 * and says what became of them in one line of JSON.
 *
 * Usage: flood shares [per second]
 * Where to, and as whom, is set as for the pool (see tbg_settings.h). Share
 * number i has job_id i in hex; one in ten is rejected. Unlike a pool it waits
 * while thousands of shares are under way, so that nothing need be lost. */

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "tbg_events.h"

#define THREADS 4

#define UNDER_WAY 8000

static long shares, per_second = 20000;
static _Atomic long next_share;

static void say(int level, const char *format, ...)
{
	(void)level;
	(void)format;
}

static int64_t now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static void wait_for_room(void)
{
	struct timespec pause = { 0, 2000000 };
	struct tbg_counts counts;

	for (;;) {
		tbg_events_counts(&counts);
		if (counts.emitted - counts.sent < UNDER_WAY)
			return;
		nanosleep(&pause, NULL);
	}
}

static void emit(struct tbg_session *session, long i)
{
	char worker[64], job_id[20], nonce[9], hash[65];
	bool valid = i % 10 != 9;

	snprintf(worker, sizeof(worker), "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080.rig%ld",
		 i % 50);
	snprintf(job_id, sizeof(job_id), "%lx", i);
	snprintf(nonce, sizeof(nonce), "%08lx", i);
	snprintf(hash, sizeof(hash), "%064lx", i);
	tbg_share_submitted(session, &(struct tbg_share){
		.user = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080", .workername = worker,
		.diff = 1, .share_diff = 1 + (double)i / 1000, .valid = valid,
		.reject_reason = "Above target", .job_id = job_id, .nonce = nonce,
		.nonce2 = "0000000000000001", .ntime = "6920fd41", .hash = hash,
		.ip = "192.0.2.17", .user_agent = "flood", .client_id = i % 50,
		.network_diff = 4096 });
}

static void *emitter(void *start)
{
	struct tbg_session session = { 0 };
	int64_t began = *(int64_t *)start, due;
	struct timespec pause;
	long i;

	while ((i = next_share++) < shares) {
		due = began + (int64_t)i * 1000000 / per_second - now_us();
		if (due > 1000) {
			pause = (struct timespec){ due / 1000000, due % 1000000 * 1000 };
			nanosleep(&pause, NULL);
		}
		if (i % 256 == 0)
			wait_for_room();
		emit(&session, i);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t threads[THREADS];
	struct tbg_counts counts;
	int64_t start;
	int i;

	if (argc > 1)
		shares = atol(argv[1]);
	if (argc > 2)
		per_second = atol(argv[2]);
	if (shares < 1 || per_second < 1) {
		fprintf(stderr, "usage: flood shares [per second]\n");
		return 2;
	}
	if (!tbg_events_start("flood", NULL, say)) {
		fprintf(stderr, "flood: events are off: is TBG_EVENTS_SOCKET right?\n");
		return 1;
	}
	start = now_us();
	for (i = 0; i < THREADS; i++)
		pthread_create(&threads[i], NULL, emitter, &start);
	for (i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	tbg_events_stop(60000);
	tbg_events_counts(&counts);
	printf("{\"emitted\": %llu, \"sent\": %llu, \"resent\": %llu, \"lost_full\": %llu,"
	       " \"lost_unsayable\": %llu, \"lost_at_stop\": %llu, \"seconds\": %.3f}\n",
	       (unsigned long long)counts.emitted, (unsigned long long)counts.sent,
	       (unsigned long long)counts.resent, (unsigned long long)counts.lost_full,
	       (unsigned long long)counts.lost_unsayable, (unsigned long long)counts.lost_at_stop,
	       (double)(now_us() - start) / 1e6);
	return 0;
}
