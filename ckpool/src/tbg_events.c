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
#include "tbg_boot.h"
#include "tbg_json.h"
#include "tbg_name.h"
#include "tbg_record.h"
#include "tbg_ring.h"
#include "tbg_saver.h"
#include "tbg_sender.h"
#include "tbg_settings.h"
#include "tbg_siphash.h"
#include "tbg_week.h"

#define STOP_MS 3000		/* at exit, for what still waits */
#define RARE 8192		/* rare events that may wait; 9 MiB */
#define BESTS_SPARE 512		/* of those, places that bests leave to blocks */
#define SESSIONS_SPARE 4096	/* and sessions, which anyone can begin, to both */
#define QUIET (1 << 20)		/* whose hash rate is known to be zero */
#define LEAST_RATE 2.3e-10	/* dsps: 1 H/s */
#define BLOCKS 4096		/* block hashes remembered */

/* One process is one engine. `kinds` is the switch: bits of the events that
 * are on, 0 without a sender. It is set with release and read with acquire, so
 * that a thread that sees a bit sees the ring too. The ring is never freed, since a
 * thread may be writing to it when events go off. */
static _Atomic uint32_t kinds;
static _Atomic uint64_t lost_full, lost_rates, proofs_left_out, mismatches;
static _Atomic bool over;	/* the sender takes no more: what comes is lost, and counted */
static struct tbg_settings settings;
static struct tbg_ring rare, ring, rates;
static struct tbg_boots boots;
static struct tbg_proofs proofs;
static _Thread_local struct tbg_proof proof;	/* of the share in this thread's hands */
static struct tbg_best best;
static struct tbg_sender sender;
static struct tbg_saver saver;
static bool started;
static _Atomic uint64_t blocks[BLOCKS], quiet[QUIET];

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
	if (over) {
		log(LOG_WARNING, "tbg: events were stopped and do not start again in this process");
		return false;
	}
	if (started || !tbg_settings_read(&settings, name, directory, log))
		return false;
	if (!tbg_json_setup() || !tbg_best_make(&best, settings.users) ||
	    !tbg_ring_make(&rare, RARE, TBG_TEXT_AREA) ||
	    !tbg_ring_make(&ring, settings.ring, TBG_TEXT_AREA) ||
	    !tbg_ring_make(&rates, settings.ring > TBG_RATES ? settings.ring : TBG_RATES,
			   TBG_RATE_AREA) ||
	    !tbg_boots_open(&boots, &settings, log)) {
		log(LOG_WARNING, "tbg: no memory for %zu waiting events: no events are sent;"
				 " set TBG_EVENTS_RING lower", settings.ring);
		return false;
	}
	load_bests(log);
	sender.rare = &rare;
	sender.ring = &ring;
	sender.rates = &rates;
	sender.proofs = &proofs;
	sender.proofs_left_out = &proofs_left_out;
	sender.best = &best;
	sender.settings = &settings;
	sender.log = log;
	sender.boots = &boots;
	sender.lost_full = &lost_full;
	sender.mismatches = &mismatches;
	sender.over = &over;
	saver.best = &best;
	saver.boots = &boots;
	saver.settings = &settings;
	saver.log = log;
	if (!tbg_saver_start(&saver) || !tbg_sender_start(&sender)) {
		log(LOG_WARNING, "tbg: cannot start a thread: %s; no events are sent",
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
	tbg_sender_stop(&sender, timeout_ms);
	tbg_saver_stop(&saver);
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
	counts->mismatches = mismatches;
	counts->untracked = best.untracked;
	counts->resent = sender.resent;
	counts->lost_unsayable = sender.lost_unsayable;
	counts->sent = boots.page ? boots.page->sent : 0;
	counts->emitted = boots.page ? boots.page->emitted : 0;
	counts->lost_at_stop = over ? counts->emitted - counts->sent - counts->lost_full -
				      counts->lost_unsayable : 0;
}

static bool is_on(enum tbg_kind kind)
{
	return atomic_load_explicit(&kinds, memory_order_acquire) >> kind & 1;
}

/* A cell for an event of that kind. Rare ones have a ring of their own, and use the
 * common one when that is full: nobody who connects again and again takes a block's
 * place. */
static struct tbg_cell *take(enum tbg_kind kind)
{
	struct tbg_cell *cell = NULL;

	switch (kind) {
	case TBG_HASHRATE_UPDATE:
		return tbg_ring_take(&rates, 0);
	case TBG_BLOCK_FOUND:
		cell = tbg_ring_take(&rare, 0);
		break;
	case TBG_SHARE_BEST_DIFF:
		cell = tbg_ring_take(&rare, BESTS_SPARE);
		break;
	case TBG_MINER_CONNECTED:
	case TBG_MINER_DISCONNECTED:
		cell = tbg_ring_take(&rare, SESSIONS_SPARE);
		break;
	default:
		break;
	}
	return cell ? cell : tbg_ring_take(&ring, 0);
}

/* A cell with an empty record, or NULL: off, or lost and counted. */
static struct tbg_cell *begin(enum tbg_kind kind)
{
	struct tbg_cell *cell;

	if (!is_on(kind))
		return NULL;
	/* First of all, so that what is said to be the last number at the end counts
	 * this event, whatever becomes of it. */
	atomic_fetch_add(&boots.page->emitted, 1);
	cell = atomic_load(&over) ? NULL : take(kind);
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
	proof.fresh = false;
}

void tbg_share_proof(const unsigned char *hash, const unsigned char *header,
		     const void *coinbase, int coinbase_length, const void *branch, int branches)
{
	if (atomic_load_explicit(&kinds, memory_order_acquire))
		tbg_proof_copy(&proof, hash, header, coinbase, coinbase_length, branch, branches);
}

static void attach_proof(struct tbg_record *record, const char *hash)
{
	if (!tbg_proof_is_of(&proof, hash))
		return;
	record->proof = tbg_proofs_put(&proofs, &proof);
	if (!record->proof)
		atomic_fetch_add_explicit(&proofs_left_out, 1, memory_order_relaxed);
}

static void pack_best(struct tbg_record *record, const struct tbg_best_broken *broken)
{
	tbg_record_best(record, broken);
	if (strcmp(broken->period, "session") != 0)
		attach_proof(record, broken->hash);
}

static void best_broken(struct tbg_best_broken *broken, const char *period, double previous)
{
	broken->period = period;
	broken->previous_best = previous;
	EMIT(TBG_SHARE_BEST_DIFF, pack_best, broken);
}

/* The best of a user who has no entry: what ckpool knew, and what this session did
 * before the entry made room. */
static double known_best(const struct tbg_session *session)
{
	uint64_t known = atomic_load_explicit(&session->known, memory_order_relaxed);
	uint64_t own = atomic_load_explicit(&session->best, memory_order_relaxed);
	double number;

	/* Bits of positive doubles order as the numbers do. */
	if (own > known)
		known = own;
	memcpy(&number, &known, sizeof(number));
	return number;
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
	tbg_best_share(&best, user, known_best(session), share_diff, broken.week, &result);
	broken.week_shares = result.week_shares;
	if (tbg_session_best(session, share_diff, &previous))
		best_broken(&broken, "session", previous);
	if (result.week)
		best_broken(&broken, "week", result.previous_week);
	if (result.alltime)
		best_broken(&broken, "alltime", result.previous_alltime);
}

static uint64_t mix(const char *hash)
{
	uint64_t mixed = 14695981039346656037u;	/* FNV-1a, 64 bits */

	for (; *hash; hash++)
		mixed = (mixed ^ (unsigned char)*hash) * 1099511628211u;
	return mixed + !mixed;
}

static void pack_block(struct tbg_record *record, const struct tbg_block *block)
{
	char hash[TBG_CAP_HASH + 1];

	/* The hash that the share has, whatever the order of ckpool's text of it. */
	if (tbg_proof_hash(&proof, hash)) {
		if (!tbg_record_block(record, block, hash))
			atomic_fetch_add_explicit(&mismatches, 1, memory_order_relaxed);
		attach_proof(record, hash);
	} else {
		tbg_record_block(record, block, NULL);
	}
}

/* Each place of the table of blocks holds the last hash that fell there; one that was
 * pushed out long ago would count again. It is marked once the event has a cell, so that
 * a block that found the rings full is not lost when it is submitted again. Of two threads with the
 * same one only the first finds it new; the other has a cell too many. */
void tbg_block_found(const struct tbg_block *block)
{
	uint64_t mixed = mix(block->hash_words ? block->hash_words : "");
	_Atomic uint64_t *mark = &blocks[mixed % BLOCKS];
	struct tbg_cell *cell;

	if (block->hash_words && atomic_load_explicit(mark, memory_order_relaxed) == mixed)
		return;
	cell = begin(TBG_BLOCK_FOUND);
	if (!cell)
		return;
	if (block->hash_words &&
	    atomic_exchange_explicit(mark, mixed, memory_order_relaxed) == mixed) {
		cell->record.kind = TBG_VOID;
		atomic_fetch_sub(&boots.page->emitted, 1);
	} else {
		pack_block(&cell->record, block);
	}
	tbg_ring_commit(cell);
}

/* Whether a node was asked to take this thread's block and gave no answer. */
static _Thread_local bool unanswered;

void tbg_block_asked(void)
{
	unanswered = true;
}

void tbg_block_answered(void)
{
	unanswered = false;
}

void tbg_block_refused(const struct tbg_block *block)
{
	if (unanswered)
		tbg_block_found(block);
	unanswered = false;
}

int64_t tbg_halving_of(bool regtest)
{
	return regtest ? 150 : 210000;
}

void tbg_miner_connected(const struct tbg_connected *connected)
{
	if (connected->session && tbg_is_difficulty(connected->best_ever))
		atomic_store_explicit(&connected->session->known,
				      tbg_bits_of(connected->best_ever), memory_order_relaxed);
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

static bool is_rate(double dsps)
{
	return tbg_is_positive(dsps) && dsps >= LEAST_RATE;
}

/* Whether all rates are zero and were sent as zero before. ckpool goes through every
 * miner that authorised since it started, each minute and for ever. Each place of the
 * table holds the last miner that fell there; one that was pushed out is sent again. */
static bool is_known_quiet(const struct tbg_hashrate *rate)
{
	const char *name = rate->workername ? rate->workername : rate->user;
	uint64_t hash, none = 0;
	_Atomic uint64_t *place;

	if (!name)
		return false;
	/* A user's total and a worker's rate are two, though the names may be one. */
	hash = tbg_siphash(best.key, name, strlen(name)) ^ !rate->workername;
	hash += !hash;
	place = &quiet[hash % QUIET];
	if (is_rate(rate->dsps_1m) || is_rate(rate->dsps_5m) || is_rate(rate->dsps_1h) ||
	    is_rate(rate->dsps_24h)) {
		if (atomic_load_explicit(place, memory_order_relaxed) == hash)
			atomic_compare_exchange_strong_explicit(place, &hash, none,
								memory_order_relaxed,
								memory_order_relaxed);
		return false;
	}
	return atomic_exchange_explicit(place, hash, memory_order_relaxed) == hash;
}

void tbg_hashrate_update(const struct tbg_hashrate *hashrate)
{
	if (hashrate->workername && !tbg_name_split(hashrate->workername).worker_length)
		return;
	if (!is_on(TBG_HASHRATE_UPDATE) || is_known_quiet(hashrate))
		return;
	EMIT(TBG_HASHRATE_UPDATE, tbg_record_hashrate, hashrate);
}

void tbg_new_block_network(const struct tbg_tip *tip)
{
	EMIT(TBG_NEW_BLOCK_NETWORK, tbg_record_tip, tip);
}
