/*
 * Part of The Bitcoin Game's ckpool fork.
 * Copyright (C) 2026 The Bitcoin Game
 * SPDX-License-Identifier: GPL-3.0-or-later
 */

/* Many threads emit while the receiver pauses, dies and comes back: what was
 * received and what was counted as lost must be what was emitted, each thread's
 * events in order, and every loss a gap in seq.
 *
 * Usage: test_stream [threads [events per thread]] */

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#include "check.h"
#include "receiver.h"
#include "tbg_events.h"

#define MAX_THREADS 64

static int threads = 8;
static long long per_thread = 125000;
static char path[64];
static _Atomic bool emitting = true;
static unsigned char *seen;	/* by thread and number */
static long long last[MAX_THREADS], out_of_order, strange, duplicates, received;
static long long last_seq, gaps, seq_back, deaths, pauses;

static void quiet(int level, const char *format, ...)
{
	(void)level;
	(void)format;
}

static void pause_ms(long ms)
{
	struct timespec pause = { ms / 1000, ms % 1000 * 1000000 };

	nanosleep(&pause, NULL);
}

static void emit(long long thread, long long number)
{
	static _Thread_local struct tbg_session session;
	char job[32];

	snprintf(job, sizeof(job), "%lld", number);
	tbg_share_submitted(&session, &(struct tbg_share){
		.user = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080",
		.workername = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080.rig",
		.diff = 512, .share_diff = 4821.375, .valid = true, .job_id = job,
		.nonce = "7a1c03e2", .nonce2 = "0000000000000029", .ntime = "6920fd41",
		.hash = "00000000002d1f5e6b7a8c9d0e1f2a3b4c5d6e7f8091a2b3c4d5e6f708192a3b",
		.ip = "192.0.2.17", .client_id = thread,
	});
}

static void *emitter(void *argument)
{
	long long i;

	for (i = 0; i < per_thread; i++) {
		emit((long long)(intptr_t)argument, i);
		/* Bursts, not one long flood: a pool's shares come so, and the
		 * ring must be seen both empty and full. */
		if (i % 256 == 255)
			pause_ms(20);
	}
	return NULL;
}

static void note(const char *text)
{
	long long thread = number_after(text, "\"client_id\":");
	long long number = number_after(text, "\"job_id\":\"");
	long long seq = number_after(text, "\"seq\":");

	if (thread < 0 || thread > threads || number < 0 || number >= per_thread || seq < 1) {
		strange++;
		return;
	}
	if (seen[thread * per_thread + number]++) {
		duplicates++;
		return;
	}
	received++;
	out_of_order += number <= last[thread];
	last[thread] = number;
	seq_back += seq <= last_seq;
	gaps += seq - last_seq - 1;
	last_seq = seq;
}

/* Reads, rests, dies with datagrams unread, stays away, comes back. Ends when
 * the emitters have ended and nothing more comes. */
static void *reader(void *argument)
{
	char text[TBG_DATAGRAM_MAX + 1];
	long long next_pause = 1000, next_death = 2000;
	int fd = receiver_open(path), silence = 0;

	(void)argument;
	while (emitting || more_to_come(silence)) {
		if (!receiver_next(fd, text)) {
			silence++;
			continue;
		}
		silence = 0;
		note(text);
		if (received >= next_pause) {
			next_pause += threads * per_thread / 20;
			pauses++;
			pause_ms(250);
		}
		if (received >= next_death) {
			next_death += threads * per_thread / 8;
			deaths++;
			close(fd);
			pause_ms(60);
			fd = receiver_open(path);
		}
	}
	close(fd);
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t reading, emitters[MAX_THREADS];
	struct tbg_counts counts;
	long long i, emitted;
	int waited;

	if (argc > 1)
		threads = atoi(argv[1]);
	if (argc > 2)
		per_thread = atoll(argv[2]);
	if (threads < 1 || threads >= MAX_THREADS || per_thread < 1) {
		fprintf(stderr, "usage: test_stream [threads [events per thread]]\n");
		return 2;
	}
	emitted = threads * per_thread + 1;
	seen = calloc(1, (size_t)emitted);
	for (i = 0; i < MAX_THREADS; i++)
		last[i] = -1;
	snprintf(path, sizeof(path), "/tmp/tbg-stream-%d.sock", (int)getpid());
	setenv("TBG_EVENTS_SOCKET", path, 1);
	setenv("TBG_EVENTS_STATE", "", 1);
	pthread_create(&reading, NULL, reader, NULL);
	if (!check(tbg_events_start("stream", NULL, quiet), "events start"))
		return finish();
	for (i = 0; i < threads; i++)
		pthread_create(&emitters[i], NULL, emitter, (void *)(intptr_t)i);
	for (i = 0; i < threads; i++)
		pthread_join(emitters[i], NULL);
	/* One more when the ring is empty again: losses at the very end show in
	 * its seq, too. */
	for (waited = 0; waited < 30000; waited++) {
		tbg_events_counts(&counts);
		if (counts.sent + counts.lost_full == counts.emitted)
			break;
		pause_ms(1);
	}
	emit(threads, 0);
	tbg_events_stop(30000);
	emitting = false;
	pthread_join(reading, NULL);
	unlink(path);
	tbg_events_counts(&counts);

	printf("# %lld received, %llu lost to a full ring, %llu sent again, %lld pauses, %lld deaths\n",
	       received, (unsigned long long)counts.lost_full, (unsigned long long)counts.resent,
	       pauses, deaths);
	check((long long)counts.emitted == emitted, "every event is counted: %lld", emitted);
	check(received + (long long)counts.lost_full == emitted,
	      "received and counted as lost make up what was emitted");
	check(counts.sent == (uint64_t)received, "what was sent was received, deaths or not");
	check(counts.lost_unsayable == 0 && counts.lost_at_stop == 0, "nothing else was lost");
	check(strange == 0, "nothing strange was received");
	check(out_of_order == 0, "each thread's events came in their order");
	check(seq_back == 0, "seq never went back");
	check(gaps == (long long)counts.lost_full && last_seq == emitted,
	      "gaps in seq are exactly the losses (%lld), and the last seq is %lld", gaps, last_seq);
	check(duplicates <= (long long)counts.resent, "only what was sent again came twice");
	check(deaths > 0 && pauses > 0, "the receiver did pause and die");
	free(seen);
	return finish();
}
