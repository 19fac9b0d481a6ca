/*
 * Part of The Bitcoin Game's ckpool fork.
 * Copyright (C) 2026 The Bitcoin Game
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * This program is free software: you can redistribute it and/or modify it
 * under the terms of the GNU General Public License as published by the Free
 * Software Foundation, either version 3 of the License, or (at your option)
 * any later version. It comes without any warranty; see LICENSE for details.
 */

/* Best share difficulties and weekly share counts per user, from accepted
 * shares only, in a table of fixed size without locks.
 *
 * ckpool's own records (check_best_diff) count a share before it is known to be
 * valid, and forget each user's best when a block is found; these do neither.
 *
 * A user is known by a keyed 64-bit hash of the name (SipHash, key random per
 * table), so that nobody can choose names that collide. By chance two of
 * 100,000 users share an entry about once in four billion tables. */

#ifndef TBG_BEST_H
#define TBG_BEST_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tbg_session.h"

struct tbg_best_entry {
	_Atomic uint64_t user;		/* hash of the name; 0 = free */
	_Atomic uint64_t alltime;	/* bits of a double; 0 = unset, 1 = none yet */
	_Atomic uint64_t week_best;	/* week tag and best: see tbg_best.c */
	_Atomic uint64_t week_shares;	/* week tag and count */
};

struct tbg_best {
	struct tbg_best_entry *entries;
	size_t mask;
	uint64_t key[2];
	_Atomic uint64_t untracked;	/* shares of users that found no place */
	_Atomic bool changed;		/* since the last tbg_best_save() */
};

/* What one share broke. */
struct tbg_best_result {
	bool week, alltime;
	double previous_week, previous_alltime;	/* 0 where there was none */
	int64_t week_shares;	/* this one included; 0 when untracked */
};

/* Makes an empty table for at least `users` users. False when there is no
 * memory or no randomness. */
bool tbg_best_make(struct tbg_best *best, size_t users);

void tbg_best_free(struct tbg_best *best);

/* Says what a user's all-time best was before this process. Only the first
 * word about a user counts, and none after the user's first share. */
void tbg_best_known(struct tbg_best *best, const char *user, double alltime);

/* Counts one accepted share of positive, finite difficulty in week `week`. */
void tbg_best_share(struct tbg_best *best, const char *user, double difficulty, uint32_t week,
		    struct tbg_best_result *result);

/* Takes a session's best up to `difficulty`; says whether it was broken and
 * what it was. */
bool tbg_session_best(struct tbg_session *session, double difficulty, double *previous);

/* Clears what belongs to other weeks than `week`. The tag of a week is its
 * number modulo 16, so this must run at least once in 15 weeks; the sender
 * thread runs it every minute. Safe while shares come in. */
void tbg_best_sweep(struct tbg_best *best, uint32_t week);

/* Saves the table to `path` by way of a new file beside it; keeps bests of
 * week `week`. False, with errno set, on failure: the old file then stays. */
bool tbg_best_save(struct tbg_best *best, const char *path, uint32_t week);

/* Fills an empty table from `path`, the weekly part only when it is of week
 * `week`. False, with errno set, when there is no such file (ENOENT) or it is
 * damaged (EBADMSG): the table then stays empty. */
bool tbg_best_load(struct tbg_best *best, const char *path, uint32_t week);

#endif
