/*
 * Part of The Bitcoin Game's ckpool fork.
 * Copyright (C) 2026 The Bitcoin Game
 * SPDX-License-Identifier: GPL-3.0-or-later
 */

/* The eight mining events, as ckpool's threads hand them over. The hooks that
 * ckpool/rules weave into stratifier.c call nothing but what is here.
 *
 * What holds for every call below tbg_events_start():
 *  - It may be made from any thread, under any lock. It takes no lock, waits
 *    for nothing, allocates nothing, makes no system call but reading the
 *    clock, and raises no floating-point exception, whatever the numbers are
 *    (ckpool traps FE_DIVBYZERO and FE_INVALID).
 *  - It returns nothing, because there is nothing for a miner's thread to do:
 *    an event that finds the ring full, or that does not fit the contract,
 *    is lost and counted by reason, and leaves a gap in `seq`. Before
 *    tbg_events_start() calls do nothing; after tbg_events_stop() their events
 *    are lost and counted.
 *  - Texts are copied before it returns. NULL is allowed for each and means
 *    "unknown", but an event without a user is refused. Texts may hold any
 *    bytes; too long ones are cut.
 *  - `workername` is the whole Stratum user name; the event carries its worker
 *    part (tbg_name.h). */

#ifndef TBG_EVENTS_H
#define TBG_EVENTS_H

#include <stdbool.h>
#include <stdint.h>

#include "tbg_session.h"

/* printf-like, with a level of syslog.h: ckpool's logmsg(). Only this
 * module's own threads and tbg_events_start()/stop() call it. */
typedef void (*tbg_log_fn)(int level, const char *format, ...);

/* Reads the settings (see tbg_settings.h), makes the rings and starts the
 * sender's and the saver's threads. Call once, before any thread that emits exists.
 *
 * `name` names the instance if no setting does; best difficulties, and how this
 * boot ends, are kept in `directory` (NULL: nowhere). On any failure it logs a line that says what
 * was wrong, events stay off, and mining goes on. Returns whether events are
 * on. Registers tbg_events_stop() to run when the process exits. */
bool tbg_events_start(const char *name, const char *directory, tbg_log_fn log);

/* Sends what still waits, and what comes meanwhile, for at most `timeout_ms`,
 * counts the rest as lost, says so in a last datagram and in the state file, saves
 * the best difficulties and ends the threads. Harmless when events are off or
 * stopped already. */
void tbg_events_stop(int timeout_ms);

/* Every event since the start, by its outcome. Emitted, which is also the highest
 * number that will have been given, is the sum of sent, waiting and all lost events. */
struct tbg_counts {
	uint64_t emitted;
	uint64_t sent;		/* given to the socket once, resends not counted */
	uint64_t resent;	/* given again after the receiver went away */
	uint64_t lost_full;	/* the ring was full: the receiver is too slow or gone */
	uint64_t lost_rates;	/* of those, hash rates, which have a ring of their own */
	uint64_t lost_unsayable; /* did not fit the contract */
	uint64_t proofs_left_out; /* of bests and blocks that were sent without */
	uint64_t lost_at_stop;	/* still waiting when the time to stop was up */
	uint64_t mismatches;	/* blocks whose hash ckpool gave in an unknown order */
	uint64_t untracked;	/* accepted shares of users without a place for bests */
};

void tbg_events_counts(struct tbg_counts *counts);

struct tbg_share {
	const char *user, *workername;
	double diff;		/* assigned */
	double share_diff;	/* achieved; <= 0: the hash was never computed */
	bool valid;
	const char *reject_reason;	/* ignored if valid */
	const char *job_id, *nonce, *nonce2, *ntime, *hash;
	const char *ip, *user_agent;
	int64_t client_id;
	uint32_t version_bits;
	double network_diff;	/* <= 0 or beyond 1e19: unknown */
};

/* One share, accepted or not; also counts it in the session. Hex gets the
 * leading zeros that it lacks; a rejected share leaves out what is not hex. An
 * accepted share always has what the contract requires: an unreadable nonce is
 * 0. */
void tbg_share_submitted(struct tbg_session *session, const struct tbg_share *share);

/* A nonce with the leading zeros that firmware leaves out: 1 to 7 hex digits are
 * filled up to 8 in `room`, anything else is returned as it is. Upstream would
 * call the share malformed, and it may be a block. */
char *tbg_padded_nonce(const char *nonce, char room[9]);

/* What proves the work of a share, before its verdict is known: 32 bytes of hash,
 * 80 of header, the coinbase transaction without witness, and the merkle branch,
 * 32 bytes each, all in the order in which they are hashed. This thread's next
 * block, and its next week or all-time best, carry it if they have that hash. */
void tbg_share_proof(const unsigned char *hash, const unsigned char *header,
		     const void *coinbase, int coinbase_length, const void *branch, int branches);

/* An accepted share, for the best difficulties: emits share_best_diff once for
 * each scope that it broke, narrowest first. Call before
 * tbg_share_submitted(). Where nobody makes room in the table of users, week and
 * all-time bests of further users are untracked, which is counted and logged. */
void tbg_share_accepted(struct tbg_session *session, const char *user, const char *workername,
			double share_diff, const char *hash);

struct tbg_block {
	const char *user, *workername, *nonce, *coinbase_sig;
	/* The hashes of the block and of the one before it as ckpool keeps them:
	 * eight words in reverse order. */
	const char *hash_words, *prev_words;
	int64_t height;
	int64_t reward;		/* the whole coinbase value, satoshis */
	int64_t halving;	/* blocks between subsidy halvings; 0: unknown */
	double share_diff, network_diff;
};

/* A block that the node accepted; a hash that was seen before is ignored. The event
 * has the hash of tbg_share_proof(), of a share that has no verdict yet on this
 * thread, and without one that of `hash_words`. */
void tbg_block_found(const struct tbg_block *block);

/* A node is asked on this thread to take a block; and it answered with a reason to
 * refuse it. */
void tbg_block_asked(void);
void tbg_block_answered(void);

/* A block that ckpool takes for refused: reported as found if the node gave no answer,
 * for it may have taken it, and asking again costs nothing: what the chain has
 * decides. */
void tbg_block_refused(const struct tbg_block *block);

/* Blocks between subsidy halvings: 150 on regtest, 210,000 elsewhere. */
int64_t tbg_halving_of(bool regtest);

struct tbg_connected {
	const char *user, *workername, *ip, *user_agent, *protocol;
	int64_t client_id;
	double diff;		/* the difficulty it starts with */
	double best_ever;	/* the user's all-time best in ckpool's records */
	struct tbg_session *session;	/* which remembers that; may be NULL */
};

/* A miner authorised. `best_ever` is the all-time best that the user's shares must
 * break if the module has none of its own. */
void tbg_miner_connected(const struct tbg_connected *connected);

struct tbg_disconnected {
	const char *user, *workername, *ip, *reason;
	int64_t client_id;
	int64_t since;		/* when it authorised, microseconds since the epoch */
};

/* A miner that had authorised is gone; the session says what it did. */
void tbg_miner_disconnected(const struct tbg_session *session,
			    const struct tbg_disconnected *disconnected);

/* Why a miner left, if ckpool's marks on the connection say: `reject` is 3 after
 * three minutes of nothing but invalid shares, `idle` is set after ten without a
 * share. NULL if they do not say. */
const char *tbg_reason_gone(int reject, bool idle);

struct tbg_diff {
	const char *user, *workername, *reason;
	int64_t client_id;
	double old_diff, new_diff;
};

/* A miner's assigned difficulty changed. */
void tbg_diff_updated(const struct tbg_diff *diff);

struct tbg_hashrate {
	const char *user;
	const char *workername;	/* NULL: the user's total */
	double dsps_1m, dsps_5m, dsps_1h, dsps_24h; /* difficulty-1 shares per second */
};

/* Average hashrates, sent as H/s (2^32 hashes to a difficulty-1 share), after all
 * other events that wait. A worker without a name is left out: its event would
 * look like the user's total. Zero (below 1 H/s) is said once. */
void tbg_hashrate_update(const struct tbg_hashrate *hashrate);

struct tbg_tip {
	const char *hash, *prev_hash;
	int64_t height;
	double network_diff;
};

/* The network's tip moved. */
void tbg_new_block_network(const struct tbg_tip *tip);

#endif
