/*
 * Part of The Bitcoin Game's ckpool fork.
 * Copyright (C) 2026 The Bitcoin Game
 * SPDX-License-Identifier: GPL-3.0-or-later
 */

/* A disk that takes its time: no event waits for it. And what a save leaves, when the
 * process is killed in the middle of it. The clock and fsync() are this test's. */

#define _GNU_SOURCE

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "check.h"
#include "emit.h"
#include "folder.h"
#include "receiver.h"
#include "tbg_best.h"
#include "tbg_week.h"

#define HASH "00000000002d1f5e6b7a8c9d0e1f2a3b4c5d6e7f8091a2b3c4d5e6f708192a3b"

static char path[64], text[TBG_DATAGRAM_MAX + 1];
static int fd;
static _Atomic bool stuck, reading = true;
static _Atomic int syncs, dies_at;
static _Atomic long ahead;	/* of the monotonic clock, seconds */

int fsync(int file)
{
	(void)file;
	if (++syncs == dies_at)
		kill(getpid(), SIGKILL);
	while (stuck)
		pause_ms(5);
	return 0;
}

static _Atomic int send_fails;	/* errno of every send(), or 0 */
static _Atomic long sends;

ssize_t send(int socket, const void *data, size_t length, int flags)
{
	sends++;
	if (send_fails) {
		errno = send_fails;
		return -1;
	}
	return sendto(socket, data, length, flags, NULL, 0);
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
	long result = syscall(SYS_clock_gettime, clock, now);

	if (clock == CLOCK_MONOTONIC)
		now->tv_sec += ahead;
	return (int)result;
}

static void *drain(void *argument)
{
	(void)argument;
	while (reading)
		receiver_next(fd, text);
	return NULL;
}

static void accept_share(double difficulty)
{
	static struct tbg_session session;

	tbg_share_accepted(&session, USER, USER ".rig", difficulty, HASH);
}

/* It is time to save, so often as it takes. */
static void minutes_pass(int wanted)
{
	int i;

	for (i = 0; i < 3000 && syncs < wanted; i++) {
		ahead += 61;
		pause_ms(20);
	}
}

/* Emits no faster than is sent, and gives up when nothing is sent for ten seconds. */
static long emitted_beside(long number)
{
	struct tbg_counts counts;
	uint64_t sent = 0;
	long i, waits = 0;

	for (i = 0; i < number; i++) {
		emit_share(i);
		do {
			tbg_events_counts(&counts);
			waits = counts.sent == sent ? waits + 1 : 0;
			sent = counts.sent;
			if (waits)
				pause_ms(1);
		} while (counts.emitted - counts.sent > 2000 && waits < 10000);
		if (waits >= 10000)
			break;
	}
	return i;
}

/* A socket that fails for a reason that nobody thought of. */
static void refused(void)
{
	struct tbg_counts counts;
	long before = sends;
	int i;

	send_fails = EPERM;
	emit_share(1);
	pause_ms(1000);
	check(logged("cannot send to") && logged("Operation not permitted"), "it is named");
	check(sends > before && sends - before < 100, "and tried again with pauses (%ld times in a second)",
	      sends - before);
	send_fails = 0;
	for (i = 0; i < 3000; i++) {
		tbg_events_counts(&counts);
		if (counts.sent == counts.emitted)
			break;
		pause_ms(10);
	}
	check(counts.sent == counts.emitted, "until it works");
}

/* More users than the table of bests has room for. */
static void untracked(void)
{
	struct tbg_session session;
	char user[32];
	int i;

	for (i = 0; i < 6000; i++) {
		snprintf(user, sizeof(user), "user%d", i);
		memset(&session, 0, sizeof(session));
		tbg_share_accepted(&session, user, user, 2, HASH);
		if (i % 100 == 0)
			pause_ms(5);
	}
	for (i = 0; i < 3000 && !logged("of users without a place"); i++) {
		ahead += 61;
		pause_ms(10);
	}
	check(logged("of users without a place") && logged("raise TBG_EVENTS_USERS, which is 1024"),
	      "whose bests are not tracked is said every minute");
}

static void slow(void)
{
	struct tbg_counts counts;
	pthread_t drainer;

	pthread_create(&drainer, NULL, drain, NULL);
	check(tbg_events_start("disk", NULL, keep_log), "events start");
	accept_share(5);
	stuck = true;
	minutes_pass(1);
	check(syncs > 0, "bests are saved every minute");
	check(emitted_beside(25000) == 25000, "events are sent while the disk is stuck");
	tbg_events_counts(&counts);
	check(counts.lost_full == 0 && counts.sent > 20000, "and none is lost (%llu sent)",
	      (unsigned long long)counts.sent);
	stuck = false;
	refused();
	untracked();
	tbg_events_stop(20000);
	reading = false;
	pthread_join(drainer, NULL);
	check(access(state, R_OK) == 0, "then they are on the disk");
}

/* The bests that a new process finds. */
static double saved_best(void)
{
	struct tbg_best best;
	struct tbg_best_result result = { 0 };
	uint32_t week = tbg_week_of(time(NULL));

	tbg_best_make(&best, 1000);
	if (!tbg_best_load(&best, state, week))
		return -1;
	tbg_best_share(&best, USER, 0, 1e9, week, &result);
	tbg_best_free(&best);
	return result.previous_week;
}

static void lives_with(double difficulty)
{
	tbg_events_start("disk", NULL, keep_log);
	accept_share(difficulty);
	tbg_events_stop(20000);
	_exit(syncs < 2);	/* the bests and the boot */
}

static int ended(pid_t child)
{
	int status;

	waitpid(child, &status, 0);
	return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

static void killed_in_the_middle(void)
{
	pid_t child = fork();

	if (!child)
		lives_with(5);
	check(ended(child) == 0 && saved_best() == 5, "what is saved is on the disk before it counts");
	child = fork();
	if (!child) {
		tbg_events_start("disk", NULL, keep_log);
		accept_share(700);
		dies_at = 2;	/* the boot was saved, the bests are being saved */
		minutes_pass(2);
		_exit(1);
	}
	check(ended(child) == -SIGKILL, "an engine is killed while it saves");
	check(saved_best() == 5, "the file before is there, whole");
	child = fork();
	if (!child) {
		tbg_events_start("disk", NULL, keep_log);
		accept_share(50);
		minutes_pass(6);	/* the boot and the bests, each more than once */
		kill(getpid(), SIGKILL);
	}
	check(ended(child) == -SIGKILL && saved_best() == 50,
	      "what was saved in the minute before is there");
	child = fork();
	if (!child)
		lives_with(900);
	check(ended(child) == 0 && saved_best() == 900,
	      "and the next one's bests are found by a new process");
}

/* A process that starts with the file breaks no record twice. */
static void fresh(void)
{
	int weeks = 0;
	bool runs = true, came;
	pid_t child;

	while (receiver_next(fd, text))
		;	/* what the engines before said */
	child = fork();
	if (!child) {
		tbg_events_start("disk", NULL, keep_log);
		accept_share(899);
		accept_share(901);
		tbg_events_stop(20000);
		_exit(0);
	}
	for (;;) {
		came = receiver_next(fd, text);
		if (!came && !runs)
			break;
		runs = runs && waitpid(child, NULL, WNOHANG) == 0;
		if (!came || !strstr(text, "\"period\":\"week\""))
			continue;
		weeks++;
		check(strstr(text, "\"new_best_diff\":901.0,\"previous_best_diff\":900.0") != NULL,
		      "the week's best goes on from the process before");
	}
	check(weeks == 1, "and is broken once");
}

int main(void)
{
	snprintf(path, sizeof(path), "/tmp/tbg-disk-%d.sock", (int)getpid());
	folder_make("disk");
	setenv("TBG_EVENTS_USERS", "1024", 1);
	setenv("TBG_EVENTS_SOCKET", path, 1);
	fd = receiver_open(path);
	killed_in_the_middle();
	fresh();
	slow();
	close(fd);
	unlink(path);
	folder_remove();
	return finish();
}
