/*
 * Part of The Bitcoin Game's ckpool fork.
 * Copyright (C) 2026 The Bitcoin Game
 * SPDX-License-Identifier: GPL-3.0-or-later
 */

/* Best difficulties, weeks, and what survives a restart. */

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "check.h"
#include "tbg_best.h"
#include "tbg_siphash.h"
#include "tbg_week.h"

static struct tbg_best best;

static double known;	/* all-time best of a user that comes for the first time */

static struct tbg_best_result share(const char *user, double difficulty, uint32_t week)
{
	struct tbg_best_result result;

	tbg_best_share(&best, user, known, difficulty, week, &result);
	return result;
}

static void weeks(void)
{
	char ours[9], libc[16];
	long wrong = 0, day;
	time_t at;

	for (day = 0; day < 60000; day++) {
		at = day * 86400 + day % 86400;
		tbg_week_text(tbg_week_of(at), ours);
		strftime(libc, sizeof(libc), "%G-W%V", gmtime(&at));
		wrong += strcmp(ours, libc) != 0;
	}
	check(wrong == 0, "60,000 days lie in the ISO week that the C library says");
	check(tbg_week_of(1763942399) + 1 == tbg_week_of(1763942400),
	      "a week ends on Sunday at midnight UTC");
}

static void records(void)
{
	struct tbg_best_result result;

	tbg_best_make(&best, 1000);
	known = 5000;
	result = share("anna", 100, 2900);
	check(result.week && result.previous_week == 0 && !result.alltime,
	      "a first share breaks the week, not the all-time best known before");
	check(result.week_shares == 1, "and is the week's first");
	result = share("anna", 99.5, 2900);
	check(!result.week && !result.alltime && result.week_shares == 2, "a lower one breaks nothing");
	result = share("anna", 100, 2900);
	check(!result.week, "nor does an equal one");
	result = share("anna", 5000.000000000001, 2900);
	check(result.week && result.previous_week == 100 && result.alltime &&
	      result.previous_alltime == 5000, "a higher one breaks both, and says what it broke");
	known = 1e9;
	check(share("anna", 6000, 2900).alltime, "only the first word about a user counts");
	known = 0;
	result = share("anna", 3, 2901);
	check(result.week && result.previous_week == 0 && result.week_shares == 1 && !result.alltime,
	      "a new week begins by itself");
	check(share("boris", 1, 2901).alltime, "another user has bests of their own");
	result = share("anna", 0x1.fffffffffffffp-30, 2902);
	result = share("anna", 0x1.fffffffffffffp200, 2902);
	check(result.previous_week == 0x1.fffffffffffffp-30, "weekly bests keep every bit");
	result = share("anna", 0x1.fffffffffffffp201, 2902);
	check(result.previous_week == 0x1.fffffffffffffp200, "also the largest");
	tbg_best_sweep(&best, 2905);
	result = share("anna", 1, 2918);
	check(result.week && result.previous_week == 0 && result.week_shares == 1,
	      "after 16 weeks away the tag of an old week is not taken for this one's");
	result = share("anna", 0, 2918);
	check(!result.week && result.week_shares == 0, "a share of difficulty 0 counts nowhere");
	result = share(NULL, 5, 2918);
	check(!result.week && best.untracked == 1, "no user, no best");
	tbg_best_free(&best);
}

/* The clock says another week for a while, and then the right one again. */
static void wrong_clock(void)
{
	struct tbg_best_result result;
	uint32_t jump;
	int wrong = 0;

	tbg_best_make(&best, 1000);
	share("anna", 1000, 2900);
	share("anna", 10, 2900);
	result = share("anna", 5, 2902);
	check(result.week && result.previous_week == 0 && result.week_shares == 1,
	      "14 days ahead, another week begins");
	tbg_best_sweep(&best, 2902);
	result = share("anna", 6, 2900);
	check(!result.week && result.week_shares == 3, "and back, the real week goes on as it was");
	result = share("anna", 1001, 2900);
	check(result.week && result.previous_week == 1000, "with the best that is to be broken");
	tbg_best_sweep(&best, 2900);
	share("anna", 1, 2901);
	tbg_best_sweep(&best, 2902);
	result = share("anna", 4, 2902);
	check(result.week && result.previous_week == 0 && result.week_shares == 1,
	      "what was dated into a future week does not count when it comes");
	tbg_best_free(&best);

	for (jump = 1; jump < 200; jump++) {
		tbg_best_make(&best, 1000);
		share("anna", 1000, 2900);
		share("anna", 1e12, 2900 + jump);
		tbg_best_sweep(&best, 2900 + jump);
		tbg_best_sweep(&best, 2900);
		result = share("anna", 1001, 2900);
		wrong += !result.week;
		wrong += jump % 3 && jump < 24 && result.previous_week != 1000;
		tbg_best_sweep(&best, 2900 + jump);
		result = share("anna", 3, 2900 + jump);
		wrong += !result.week || result.previous_week != 0;
		tbg_best_free(&best);
	}
	check(wrong == 0, "from any jump ahead of up to 200 weeks the bests recover");
	wrong = 0;
	for (jump = 1; jump < 200; jump++) {
		tbg_best_make(&best, 1000);
		share("anna", 1000, 2900);
		share("anna", 1e12, 2900 - jump);
		tbg_best_sweep(&best, 2900 - jump);
		tbg_best_sweep(&best, 2900);
		wrong += !share("anna", 1001, 2900).week;
		wrong += share("anna", 1000, 2900).week;
		tbg_best_free(&best);
	}
	check(wrong == 0, "and from any jump back");
}

/* Users fill the table, idle ones make room, and nobody's bests become another's. */
static void crowded(void)
{
	struct tbg_best_result result;
	char name[24];
	int i, weeks = 0, wrong = 0;

	tbg_best_make(&best, 1000);
	for (i = 0; i < 5000; i++) {
		snprintf(name, sizeof(name), "gone%d", i);
		share(name, 1e6 + i, 2890);
	}
	check(best.untracked > 0, "a table may be full of this week's users");
	best.untracked = 0;
	for (i = 0; i < 500; i++) {
		snprintf(name, sizeof(name), "last%d", i);
		share(name, 1e6 + i, 2899);
	}
	check(best.untracked == 0, "those of nine weeks ago make room");
	for (i = 0; i < 200; i++) {
		snprintf(name, sizeof(name), "new%d", i);
		known = 3;
		result = share(name, 5, 2900);
		known = 0;
		weeks += result.week && result.previous_week == 0 && result.week_shares == 1;
		wrong += !result.alltime || result.previous_alltime != 3;
		result = share(name, 4, 2900);
		wrong += result.week || result.alltime || result.week_shares != 2;
	}
	check(weeks == 200 && wrong == 0, "each new user has bests of the own (%d weeks, %d wrong)", weeks,
	      wrong);
	for (i = 0; i < 500; i++) {
		snprintf(name, sizeof(name), "last%d", i);
		wrong += !share(name, 1e6 + i - 1, 2900).week;
		wrong += share(name, 1e6 + i - 1, 2900).alltime;
	}
	check(wrong == 0, "and who had a share last week is still known (%d wrong)", wrong);
	known = 777;
	result = share("gone1", 9, 2901);
	check(result.alltime == false && result.week, "who made room comes back with what ckpool knows");
	known = 0;
	for (i = 0; i < 5000; i++) {
		snprintf(name, sizeof(name), "ahead%d", i);
		share(name, 1, 2903);
	}
	best.untracked = 0;
	for (i = 0; i < 100; i++) {
		snprintf(name, sizeof(name), "late%d", i);
		share(name, 1, 2901);
	}
	check(best.untracked > 50, "users of a later week, of a clock that was wrong, keep their places (%d)",
	      (int)best.untracked);
	tbg_best_free(&best);
}

static void full_table(void)
{
	char name[16];
	int i;

	tbg_best_make(&best, 10);
	for (i = 0; i < 2000; i++) {
		snprintf(name, sizeof(name), "user%d", i);
		share(name, 1, 2900);
	}
	check(best.untracked == 2000 - (best.mask + 1), "a full table counts whom it cannot track");
	tbg_best_free(&best);
}

/* A file with more users than the table has room for, and with rows of users who
 * authorised and never had a share, which older versions kept. */
static void another_size(void)
{
	char path[64], name[16];
	int i, found = 0;

	snprintf(path, sizeof(path), "/tmp/tbg-best-size-%d", (int)getpid());
	tbg_best_make(&best, 4000);
	for (i = 0; i < 3000; i++) {
		snprintf(name, sizeof(name), "user%d", i);
		share(name, 50, i < 2900 ? 2890 : 2900);
	}
	check(tbg_best_save(&best, path, 2900), "a large table is saved");
	tbg_best_free(&best);
	tbg_best_make(&best, 100);
	check(tbg_best_load(&best, path, 2900), "and loaded into a small one");
	for (i = 2900; i < 3000; i++) {
		snprintf(name, sizeof(name), "user%d", i);
		found += share(name, 51, 2900).previous_week == 50;
	}
	check(found == 100, "which has this week's users (%d)", found);
	tbg_best_free(&best);

	tbg_best_make(&best, 4000);
	for (i = 0; i < 3000; i++) {
		best.entries[i].user = (uint64_t)i + 1;
		best.entries[i].alltime = 1;	/* none yet */
	}
	check(tbg_best_save(&best, path, 2900), "rows of strangers");
	tbg_best_free(&best);
	tbg_best_make(&best, 4000);
	check(tbg_best_load(&best, path, 2900), "are read");
	for (i = found = 0; i <= (int)best.mask; i++)
		found += best.entries[i].user != 0;
	check(found == 0, "and take no place (%d)", found);
	tbg_best_free(&best);
	unlink(path);
}

static void restart(void)
{
	char path[64];
	FILE *file;

	snprintf(path, sizeof(path), "/tmp/tbg-best-%d", (int)getpid());
	tbg_best_make(&best, 1000);
	check(!tbg_best_load(&best, path, 2900) && errno == ENOENT, "no state file yet");
	share("anna", 700, 2900);
	share("anna", 1, 2900);
	share("boris", 8, 2900);
	check(tbg_best_save(&best, path, 2900), "bests are saved");
	tbg_best_free(&best);

	tbg_best_make(&best, 1000);
	check(tbg_best_load(&best, path, 2900), "and loaded");
	check(!share("anna", 699, 2900).week, "a weekly best survives a restart");
	check(share("anna", 701, 2900).previous_alltime == 700, "so does an all-time one");
	check(share("boris", 7, 2900).week_shares == 2, "and the count of the week's shares");
	tbg_best_free(&best);

	tbg_best_make(&best, 1000);
	check(tbg_best_load(&best, path, 2900), "loaded");
	share("anna", 3, 2902);
	check(tbg_best_save(&best, path, 2902), "a clock 14 days ahead saves its own week");
	tbg_best_free(&best);
	tbg_best_make(&best, 1000);
	check(tbg_best_load(&best, path, 2900) && share("anna", 701, 2900).previous_week == 700,
	      "and after a restart at the right time the real week is there");
	check(share("anna", 1, 2902).previous_week == 0, "and the future one is not");
	share("carla", 9, 2900);
	check(tbg_best_save(&best, path, 2900), "saved again");
	tbg_best_free(&best);
	tbg_best_make(&best, 1000);
	check(tbg_best_load(&best, path, 2948) && share("anna", 2, 2948).week,
	      "a file of 48 weeks ago is not taken for this week's");
	tbg_best_free(&best);

	tbg_best_make(&best, 1000);
	check(tbg_best_load(&best, path, 2901), "a file of last week is loaded");
	check(share("anna", 2, 2901).week && !share("anna", 699, 2901).alltime,
	      "for its all-time bests only");
	tbg_best_free(&best);

	file = fopen(path, "r+");
	fseek(file, 60, SEEK_SET);
	fputc('x', file);
	fclose(file);
	tbg_best_make(&best, 1000);
	check(!tbg_best_load(&best, path, 2900) && errno == EBADMSG, "a damaged file is refused");
	check(share("anna", 1, 2900).alltime, "and leaves the table empty");
	check(!truncate(path, 20) && !tbg_best_load(&best, path, 2900) && errno == EBADMSG, "so is a short one");
	check(!tbg_best_save(&best, "/nonexistent/state", 2900) && errno == ENOENT,
	      "where nothing can be saved, it says so");
	tbg_best_free(&best);
	unlink(path);
}

#define THREADS 8
#define SHARES 1000000

static struct tbg_session session;
static _Atomic long long broken_week, broken_session, chain;
static pthread_barrier_t begin;

/* Every thread breaks records of the same user; previous bests must chain. */
static void *digger(void *argument)
{
	unsigned int thread = (unsigned int)(intptr_t)argument, i;
	double previous;

	pthread_barrier_wait(&begin);
	for (i = 1; i <= SHARES; i++) {
		double difficulty = i * THREADS + thread;
		struct tbg_best_result result;

		tbg_best_share(&best, "anna", 0, difficulty, 2900, &result);
		if (result.week) {
			broken_week++;
			chain += (long long)difficulty - (long long)result.previous_week;
		}
		broken_session += tbg_session_best(&session, difficulty, &previous);
	}
	return NULL;
}

static void together(void)
{
	pthread_t threads[THREADS];
	intptr_t i;

	tbg_best_make(&best, 1000);
	pthread_barrier_init(&begin, NULL, THREADS);
	for (i = 0; i < THREADS; i++)
		pthread_create(&threads[i], NULL, digger, (void *)i);
	for (i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	check(share("anna", 1, 2900).week_shares == THREADS * SHARES + 1,
	      "no share is lost from the count by 8 threads at once");
	check(chain == SHARES * THREADS + THREADS - 1,
	      "each record continues from the one it broke (%lld records)", (long long)broken_week);
	check(broken_session > 0, "the session's best was broken, too");
	tbg_best_free(&best);
}

/* A clock that begins in 1970 sweeps once, not at every share. */
static void first_week(void)
{
	struct tbg_best_result result;
	uint64_t planted = (uint64_t)5 << 60 | 5;

	tbg_best_make(&best, 1000);
	share("anna", 5, 0);
	best.entries[0].user = 1;
	/* Of week 16, which a sweep for week 0 takes for the future and clears. */
	best.entries[0].weeks[1].shares = planted;
	result = share("anna", 6, 0);
	check(result.week && result.previous_week == 5 && result.week_shares == 2,
	      "the week of 1970-01-01 is a week");
	check(best.entries[0].weeks[1].shares == planted, "in which no share sweeps the table again");
	tbg_best_free(&best);
}

/* The last example of the paper's appendix A. */
static void siphash(void)
{
	static const uint64_t key[2] = { 0x0706050403020100u, 0x0f0e0d0c0b0a0908u };
	unsigned char data[15];
	int i;

	for (i = 0; i < 15; i++)
		data[i] = (unsigned char)i;
	check(tbg_siphash(key, data, 15) == 0xa129ca6149be45e5u, "SipHash-2-4 is the paper's");
}

int main(void)
{
	siphash();
	weeks();
	records();
	wrong_clock();
	crowded();
	full_table();
	restart();
	another_size();
	first_week();
	together();
	return finish();
}
