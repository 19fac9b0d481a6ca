/*
 * Part of The Bitcoin Game's ckpool fork.
 * Copyright (C) 2026 The Bitcoin Game
 * SPDX-License-Identifier: GPL-3.0-or-later
 */

/* Best share difficulties and weekly share counts per user, from accepted
 * shares only, in a table of fixed size without locks.
 *
 * ckpool's own records (check_best_diff) count a share before it is known to be
 * valid, and forget each user's best when a block is found; these do neither.
 *
 * Where a new user finds no free place, the one that has been idle longest of
 * those around it makes room, if it had no share this week. Its all-time best is
 * still in ckpool's records.
 *
 * A user is known by a keyed 64-bit hash of the name (SipHash, key random per
 * table), so that no miner can choose names that collide. By chance two of
 * 100,000 users share an entry about once in four billion tables. */

#ifndef TBG_BEST_H
#define TBG_BEST_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tbg_session.h"

/* Weeks are kept apart, each in the place of its number modulo 3. A clock that
 * jumps to another week and back finds the right one as it was, unless it lies
 * a multiple of three weeks or more than 23 away: then the week starts over. */
#define TBG_WEEKS 3
#define TBG_NO_WEEK UINT32_MAX

/* The most places that are searched for a user. A table that is less than three
 * quarters full practically never needs as many. */
#define TBG_PROBES 128

struct tbg_best_week {
	_Atomic uint64_t best;		/* week tag and best: see tbg_best.c */
	_Atomic uint64_t shares;	/* week tag and count */
};

struct tbg_best_entry {
	_Atomic uint64_t user;		/* hash of the name; 0 = free */
	_Atomic uint64_t alltime;	/* bits of a double; 0 = unset, 1 = none yet */
	struct tbg_best_week weeks[TBG_WEEKS];
};

struct tbg_best {
	struct tbg_best_entry *entries;
	size_t mask;
	uint64_t key[2];
	_Atomic uint32_t week;		/* of the last sweep; TBG_NO_WEEK = none yet */
	_Atomic uint64_t untracked;	/* shares of users that found no place */
	_Atomic bool changed;		/* since the last tbg_best_save() */
};

/* What one share broke. */
struct tbg_best_result {
	bool week, alltime;
	double previous_week, previous_alltime;	/* 0 if there was none */
	int64_t week_shares;	/* this one included; 0 when untracked */
};

/* Makes an empty table for at least `users` users. False when there is no
 * memory or no randomness. */
bool tbg_best_make(struct tbg_best *best, size_t users);

void tbg_best_free(struct tbg_best *best);

/* Counts one accepted share of positive, finite difficulty in week `week`. Only
 * this makes an entry, of a user whose all-time best was `known` until then (not
 * above zero: there was none). */
void tbg_best_share(struct tbg_best *best, const char *user, double known, double difficulty,
		    uint32_t week, struct tbg_best_result *result);

/* Raises a session's best to `difficulty`. Returns whether that broke it; if so,
 * `previous` is the best before. */
bool tbg_session_best(struct tbg_session *session, double difficulty, double *previous);

/* Clears what belongs to weeks after `week`, which only a wrong clock can have
 * dated, and to weeks long past; all weeks, when the last sweep was for one more
 * than 23 away, since a week is known by its number modulo 48. The sender thread
 * runs it every minute, and a share of so far a week at once. Safe while shares
 * come in. */
void tbg_best_sweep(struct tbg_best *best, uint32_t week);

/* Saves the table, swept for week `week`, to `path` by way of a new file beside
 * it. False, with errno set, on failure: the old file then stays. */
bool tbg_best_save(struct tbg_best *best, const char *path, uint32_t week);

/* Fills an empty table from `path` and sweeps it for week `week`. Weekly bests are
 * read only if the file is less than 24 weeks away from that week. Users who never
 * had a share are left out, and of more than the table has room for, those without
 * one in the newest weeks. False, with errno
 * set, if the file does not exist (ENOENT) or is damaged (EBADMSG): the table then
 * stays empty. */
bool tbg_best_load(struct tbg_best *best, const char *path, uint32_t week);

#endif
