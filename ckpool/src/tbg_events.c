/*
 * Part of The Bitcoin Game's ckpool fork.
 * Copyright (C) 2026 The Bitcoin Game
 * SPDX-License-Identifier: GPL-3.0-or-later
 */

#include "tbg_events.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <time.h>

#include "tbg_best.h"
#include "tbg_json.h"
#include "tbg_name.h"
#include "tbg_record.h"
#include "tbg_ring.h"
#include "tbg_sender.h"
#include "tbg_settings.h"
#include "tbg_week.h"

#define USERS 98304		/* with best difficulties; 8 MiB */
#define STOP_MS 3000		/* at exit, for what still waits */
#define RATES 65536		/* hash rates that may wait, at least; 28 MiB */
#define BLOCKS 4096		/* block hashes remembered */

/* One process is one engine. `kinds` is the switch: bits of the events that
 * are on, 0 without a sender. It is set with release and read with acquire, so
 * that a thread that sees a bit sees the ring too. The ring is never freed, since a
 * thread may be writing to it when events go off. */
static _Atomic uint32_t kinds;
static _Atomic uint64_t lost_full, lost_rates, proofs_left_out;
static struct tbg_settings settings;
static struct tbg_ring ring, rates;
static struct tbg_proofs proofs;
static _Thread_local struct tbg_proof proof;	/* of the share in this thread's hands */
static struct tbg_best best;
static struct tbg_sender sender;
static bool started;
static _Atomic uint64_t blocks[BLOCKS];

static void stop_at_exit(void)
{
	tbg_events_stop(STOP_MS);
}

static void load_bests(tbg_log_fn log)
{
	if (!*settings.state || tbg_best_load(&best, settings.state, tbg_week_of(time(NULL))) ||
	    errno == ENOENT)
		return;
	log(LOG_WARNING, "tbg: cannot read best difficulties from %s: %s; this week starts over",
	    settings.state, strerror(errno));
}

bool tbg_events_start(const char *name, const char *directory, tbg_log_fn log)
{
	if (started || !tbg_settings_read(&settings, name, directory, log))
		return false;
	if (!tbg_json_setup() || !tbg_best_make(&best, USERS) ||
	    !tbg_ring_make(&ring, settings.ring, TBG_TEXT_AREA) ||
	    !tbg_ring_make(&rates, settings.ring > RATES ? settings.ring : RATES, TBG_RATE_AREA)) {
		log(LOG_WARNING, "tbg: no memory for %zu waiting events: no events are sent;"
				 " set TBG_EVENTS_RING lower", settings.ring);
		return false;
	}
	load_bests(log);
	sender.ring = &ring;
	sender.rates = &rates;
	sender.proofs = &proofs;
	sender.proofs_left_out = &proofs_left_out;
	sender.best = &best;
	sender.settings = &settings;
	sender.log = log;
	sender.lost_full = &lost_full;
	if (!tbg_sender_start(&sender)) {
		log(LOG_WARNING, "tbg: cannot start the sender thread: %s; no events are sent",
		    strerror(errno));
		return false;
	}
	started = true;
	atomic_store_explicit(&kinds, settings.kinds, memory_order_release);
	atexit(stop_at_exit);
	log(LOG_NOTICE, "tbg: events go to %s as %s, source %s", settings.socket.sun_path,
	    settings.instance, settings.source);
	return true;
}

void tbg_events_stop(int timeout_ms)
{
	struct tbg_counts counts;

	if (!started)
		return;
	started = false;
	atomic_store_explicit(&kinds, 0, memory_order_release);
	tbg_sender_stop(&sender, timeout_ms);
	tbg_events_counts(&counts);
	sender.log(LOG_NOTICE,
		   "tbg: %llu events: %llu sent, %llu of them again, %llu lost to a full ring,"
		   " %llu unsayable, %llu unsent at the end",
		   (unsigned long long)counts.emitted, (unsigned long long)counts.sent,
		   (unsigned long long)counts.resent, (unsigned long long)counts.lost_full,
		   (unsigned long long)counts.lost_unsayable,
		   (unsigned long long)counts.lost_at_stop);
}

void tbg_events_counts(struct tbg_counts *counts)
{
	counts->lost_full = lost_full;
	counts->lost_rates = lost_rates;
	counts->proofs_left_out = proofs_left_out;
	counts->emitted = ring.head + rates.head + counts->lost_full;
	counts->sent = sender.sent;
	counts->resent = sender.resent;
	counts->lost_unsayable = sender.lost_unsayable;
	counts->lost_at_stop = sender.lost_at_stop;
}

static bool is_on(enum tbg_kind kind)
{
	return atomic_load_explicit(&kinds, memory_order_acquire) >> kind & 1;
}

/* A cell with an empty record, or NULL: off, or lost and counted. */
static struct tbg_cell *begin(enum tbg_kind kind)
{
	struct tbg_cell *cell;

	if (!is_on(kind))
		return NULL;
	cell = tbg_ring_take(kind == TBG_HASHRATE_UPDATE ? &rates : &ring);
	if (!cell) {
		atomic_fetch_add_explicit(&lost_full, 1, memory_order_relaxed);
		if (kind == TBG_HASHRATE_UPDATE)
			atomic_fetch_add_explicit(&lost_rates, 1, memory_order_relaxed);
		return NULL;
	}
	tbg_record_begin(&cell->record, kind);
	cell->record.dropped = atomic_load_explicit(&lost_full, memory_order_relaxed);
	return cell;
}

/* Hands over an event that `pack` makes of the rest, unless there is no cell for it. */
#define EMIT(kind, pack, ...)                             \
	do {                                          \
		struct tbg_cell *cell = begin(kind);      \
                                                      \
		if (cell) {                           \
			pack(&cell->record, __VA_ARGS__); \
			tbg_ring_commit(cell);        \
		}                                     \
	} while (0)

void tbg_share_submitted(struct tbg_session *session, const struct tbg_share *share)
{
	atomic_fetch_add_explicit(share->valid ? &session->accepted : &session->rejected, 1,
				  memory_order_relaxed);
	EMIT(TBG_SHARE_SUBMITTED, tbg_record_share, share);
}

void tbg_share_proof(const unsigned char *hash, const unsigned char *header,
		     const void *coinbase, int coinbase_length, const void *branch, int branches)
{
	if (atomic_load_explicit(&kinds, memory_order_acquire))
		tbg_proof_copy(&proof, hash, header, coinbase, coinbase_length, branch, branches);
}

static void attach_proof(struct tbg_record *record, const char *hash, bool in_words)
{
	if (!tbg_proof_is_of(&proof, hash, in_words))
		return;
	record->proof = tbg_proofs_put(&proofs, &proof);
	if (!record->proof)
		atomic_fetch_add_explicit(&proofs_left_out, 1, memory_order_relaxed);
}

static void pack_best(struct tbg_record *record, const struct tbg_best_broken *broken)
{
	tbg_record_best(record, broken);
	if (strcmp(broken->period, "session") != 0)
		attach_proof(record, broken->hash, false);
}

static void best_broken(struct tbg_best_broken *broken, const char *period, double previous)
{
	broken->period = period;
	broken->previous_best = previous;
	EMIT(TBG_SHARE_BEST_DIFF, pack_best, broken);
}

void tbg_share_accepted(struct tbg_session *session, const char *user, const char *workername,
			double share_diff, const char *hash)
{
	struct tbg_best_broken broken = {
		.user = user, .workername = workername, .hash = hash, .new_best = share_diff,
	};
	struct tbg_best_result result;
	struct timespec now;
	double previous;

	/* The table is there as long as events were ever on. */
	if (!atomic_load_explicit(&kinds, memory_order_acquire))
		return;
	clock_gettime(CLOCK_REALTIME, &now);
	broken.week = tbg_week_of(now.tv_sec);
	tbg_best_share(&best, user, share_diff, broken.week, &result);
	broken.week_shares = result.week_shares;
	if (tbg_session_best(session, share_diff, &previous))
		best_broken(&broken, "session", previous);
	if (result.week)
		best_broken(&broken, "week", result.previous_week);
	if (result.alltime)
		best_broken(&broken, "alltime", result.previous_alltime);
}

/* Whether this block hash is new. Each place of the table holds the last hash
 * that fell there, so that of two threads with the same one only the first
 * finds it new; one that was pushed out long ago would count again. */
static bool is_new_block(const char *hash)
{
	uint64_t mixed = 14695981039346656037u;	/* FNV-1a, 64 bits */

	for (; *hash; hash++)
		mixed = (mixed ^ (unsigned char)*hash) * 1099511628211u;
	mixed += !mixed;
	return atomic_exchange_explicit(&blocks[mixed % BLOCKS], mixed,
					memory_order_relaxed) != mixed;
}

static void pack_block(struct tbg_record *record, const struct tbg_block *block)
{
	tbg_record_block(record, block);
	attach_proof(record, block->hash_words, true);
}

void tbg_block_found(const struct tbg_block *block)
{
	if (is_on(TBG_BLOCK_FOUND) && (!block->hash_words || is_new_block(block->hash_words)))
		EMIT(TBG_BLOCK_FOUND, pack_block, block);
}

int64_t tbg_halving_of(bool regtest)
{
	return regtest ? 150 : 210000;
}

void tbg_miner_connected(const struct tbg_connected *connected)
{
	if (!atomic_load_explicit(&kinds, memory_order_acquire))
		return;
	tbg_best_known(&best, connected->user, connected->best_ever);
	EMIT(TBG_MINER_CONNECTED, tbg_record_connected, connected);
}

const char *tbg_reason_gone(int reject, bool idle)
{
	if (reject > 2)
		return "continuous invalid shares";
	return idle ? "idle" : NULL;
}

void tbg_miner_disconnected(const struct tbg_session *session,
			    const struct tbg_disconnected *disconnected)
{
	EMIT(TBG_MINER_DISCONNECTED, tbg_record_disconnected, session, disconnected);
}

void tbg_diff_updated(const struct tbg_diff *diff)
{
	EMIT(TBG_DIFF_UPDATED, tbg_record_diff, diff);
}

void tbg_hashrate_update(const struct tbg_hashrate *hashrate)
{
	if (hashrate->workername && !tbg_name_split(hashrate->workername).worker_length)
		return;
	EMIT(TBG_HASHRATE_UPDATE, tbg_record_hashrate, hashrate);
}

void tbg_new_block_network(const struct tbg_tip *tip)
{
	EMIT(TBG_NEW_BLOCK_NETWORK, tbg_record_tip, tip);
}
