/*
 * Part of The Bitcoin Game's ckpool fork.
 * Copyright (C) 2026 The Bitcoin Game
 * SPDX-License-Identifier: GPL-3.0-or-later
 */

/* What one share costs the thread that emits it: median and tails, in ns,
 * beside a bare sendto() of a ready datagram.
 *
 * Usage: bench_emit [emits per row]
 *
 * Each emit is timed on its own with CLOCK_MONOTONIC, whose own cost is printed
 * and not taken off. */

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#include "receiver.h"
#include "tbg_events.h"

static int emits = 200000;
static char path[64];
static uint32_t *took;
static _Atomic bool reading = true;

static void quiet(int level, const char *format, ...)
{
	(void)level;
	(void)format;
}

static int64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static int by_size(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

static void row(const char *what)
{
	qsort(took, (size_t)emits, sizeof(*took), by_size);
	printf("%-44s %8u %8u %8u %8u\n", what, took[emits / 2], took[(size_t)emits * 99 / 100],
	       took[(size_t)emits * 999 / 1000], took[emits - 1]);
}

static void *drain(void *argument)
{
	char text[TBG_DATAGRAM_MAX + 1];
	int fd = *(int *)argument;

	while (reading)
		receiver_next(fd, text);
	return NULL;
}

static void emit(struct tbg_session *session)
{
	tbg_share_submitted(session, &(struct tbg_share){
		.user = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080",
		.workername = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080.bitaxe-1",
		.diff = 512, .share_diff = 4821.375, .valid = true,
		.job_id = "6920fd4000000003", .nonce = "7a1c03e2", .nonce2 = "0000000000000029",
		.ntime = "6920fd41", .ip = "192.0.2.17", .user_agent = "bitaxe/BM1370/v2.9.0",
		.hash = "00000000002d1f5e6b7a8c9d0e1f2a3b4c5d6e7f8091a2b3c4d5e6f708192a3b",
		.client_id = 7, .version_bits = 0xc00000, .network_diff = 102289407543323.8 });
}

static void time_emits(const char *what, int pause_every)
{
	static struct tbg_session session;
	struct timespec pause = { 0, 10000000 };
	int64_t start;
	int i;

	for (i = 0; i < emits; i++) {
		start = now_ns();
		emit(&session);
		took[i] = (uint32_t)(now_ns() - start);
		if (pause_every && i % pause_every == pause_every - 1)
			nanosleep(&pause, NULL);
	}
	row(what);
}

static void time_proofs(const char *what)
{
	static unsigned char coinbase[300], branch[12][32], header[80];
	int64_t start;
	int i;

	for (i = 0; i < emits; i++) {
		start = now_ns();
		tbg_share_proof(header, header, coinbase, sizeof(coinbase), branch, 12);
		took[i] = (uint32_t)(now_ns() - start);
	}
	row(what);
}

static void time_sendto(int out, const char *what)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	char datagram[640];
	int64_t start;
	int i;

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	memset(datagram, 'x', sizeof(datagram));
	for (i = 0; i < emits; i++) {
		start = now_ns();
		sendto(out, datagram, sizeof(datagram), MSG_NOSIGNAL, (struct sockaddr *)&address,
		       sizeof(address));
		took[i] = (uint32_t)(now_ns() - start);
	}
	row(what);
}

int main(int argc, char **argv)
{
	pthread_t drainer;
	struct tbg_counts before, after;
	int64_t start;
	int fd, out, i;

	if (argc > 1)
		emits = atoi(argv[1]);
	if (emits < 1000) {
		fprintf(stderr, "usage: bench_emit [emits per row, at least 1000]\n");
		return 2;
	}
	took = calloc((size_t)emits, sizeof(*took));
	snprintf(path, sizeof(path), "/tmp/tbg-bench-%d.sock", (int)getpid());
	setenv("TBG_EVENTS_SOCKET", path, 1);
	setenv("TBG_EVENTS_STATE", "", 1);
	fd = receiver_open(path);
	out = socket(AF_UNIX, SOCK_DGRAM, 0);
	printf("%-44s %8s %8s %8s %8s\n", "ns on the calling thread", "median", "p99", "p99.9", "max");
	for (i = 0; i < emits; i++) {
		start = now_ns();
		took[i] = (uint32_t)(now_ns() - start);
	}
	row("the clock alone");

	pthread_create(&drainer, NULL, drain, &fd);
	time_sendto(out, "bare sendto, receiver reading (waits for room)");
	if (!tbg_events_start("bench", NULL, quiet))
		return 2;
	tbg_events_counts(&before);
	time_emits("emit, receiver reading, 12,800 a second", 128);
	time_emits("emit, receiver reading, flat out", 0);
	time_proofs("the proof of one share, kept for its verdict");
	reading = false;
	pthread_join(drainer, NULL);
	time_emits("emit, receiver stopped, 12,800 a second", 128);
	time_emits("emit, receiver stopped, flat out", 0);
	tbg_events_counts(&after);
	printf("%llu emitted, %llu of them lost to a full ring (the receiver had stopped)\n",
	       (unsigned long long)after.emitted, (unsigned long long)after.lost_full);
	close(fd);
	unlink(path);
	tbg_events_stop(0);
	return 0;
}
