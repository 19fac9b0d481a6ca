/*
 * Part of The Bitcoin Game's ckpool fork.
 * Copyright (C) 2026 The Bitcoin Game
 * SPDX-License-Identifier: GPL-3.0-or-later
 */

/* One event as the mining threads hand it over: scalars, and text copied into
 * a fixed area. Packing is what a mining thread pays for; turning a record
 * into JSON is the sender thread's work. */

#ifndef TBG_RECORD_H
#define TBG_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tbg_events.h"
#include "tbg_proof.h"

/* The largest datagram of the event contract, bytes. */
#define TBG_DATAGRAM_MAX 8192

enum tbg_kind {
	TBG_SHARE_SUBMITTED,
	TBG_SHARE_BEST_DIFF,
	TBG_BLOCK_FOUND,
	TBG_MINER_CONNECTED,
	TBG_MINER_DISCONNECTED,
	TBG_DIFF_UPDATED,
	TBG_HASHRATE_UPDATE,
	TBG_NEW_BLOCK_NETWORK,
	TBG_KINDS,
	TBG_VOID = TBG_KINDS	/* a cell that turned out to be of no use */
};

/* The contract's names, by kind. */
extern const char *const tbg_kind_names[TBG_KINDS];

/* Every text that an event can carry, and the most bytes kept of it: no more
 * than the contract's limit in characters. */
enum tbg_text {
	TBG_USER,
	TBG_WORKER,
	TBG_REASON,	/* also: period of a best, protocol of a connection */
	TBG_JOB_ID,	/* also: coinbase signature of a block */
	TBG_NONCE,
	TBG_NONCE2,
	TBG_IP,
	TBG_NTIME,
	TBG_HASH,
	TBG_PREV_HASH,
	TBG_USER_AGENT,
	TBG_TEXTS
};

#define TBG_TEXT_AREA 768

struct tbg_record {
	uint64_t seq;		/* set by the sender; 0 = not yet */
	uint64_t dropped;	/* events lost before this one, as its thread saw it */
	int64_t timestamp;	/* microseconds since the epoch, UTC */
	int64_t client_id;	/* negative = none */
	int64_t height;
	int64_t reward;		/* satoshis */
	int64_t fees;		/* satoshis; negative = unknown */
	int64_t week_shares;	/* accepted in that week; 0 = not said */
	int64_t accepted;
	int64_t rejected;
	double number[4];	/* meaning by kind, below */
	uint32_t week;		/* of tbg_week_of */
	uint32_t version_bits;	/* 0 = none rolled */
	uint16_t proof;		/* of tbg_proofs_put(); 0 = none */
	uint8_t kind;
	bool valid;
	uint16_t used;		/* bytes of `area` in use */
	uint16_t at[TBG_TEXTS];
	uint16_t length[TBG_TEXTS];	/* TBG_NONE = null */
	uint16_t cut;		/* bit per text: it was longer than kept */
	char area[TBG_TEXT_AREA];	/* the last: a hash rate's cell ends earlier */
};

#define TBG_NONE UINT16_MAX
#define TBG_HEX "0123456789abcdefABCDEF"

/* Bytes kept of each text. The contract's limits are characters, which are
 * never more than bytes. */
enum {
	TBG_CAP_USER = 90,
	TBG_CAP_WORKER = 128,
	TBG_CAP_REASON = 48,
	TBG_CAP_JOB_ID = 64,
	TBG_CAP_NONCE = 16,
	TBG_CAP_NONCE2 = 64,
	TBG_CAP_IP = 45,
	TBG_CAP_NTIME = 16,
	TBG_CAP_HASH = 64,
	TBG_CAP_USER_AGENT = 200,
};

#define TBG_RATE_AREA (TBG_CAP_USER + TBG_CAP_WORKER)	/* all texts of a hash rate */

/* What number[] holds, by kind. */
enum { SHARE_ASSIGNED, SHARE_ACHIEVED, SHARE_NETWORK };
enum { BEST_NEW, BEST_PREVIOUS };
enum { BLOCK_ACHIEVED, BLOCK_NETWORK };
enum { CONNECTED_DIFF };
enum { GONE_DURATION, GONE_BEST };
enum { DIFF_OLD, DIFF_NEW };
enum { RATE_1M, RATE_5M, RATE_1H, RATE_24H };
enum { TIP_NETWORK };

/* Empties a record for an event of that kind, now. */
void tbg_record_begin(struct tbg_record *record, enum tbg_kind kind);

/* What a best difficulty was broken in. */
struct tbg_best_broken {
	const char *user, *workername, *hash;
	const char *period;	/* session, week or alltime */
	uint32_t week;		/* of tbg_week_of() */
	double new_best, previous_best;
	int64_t week_shares;	/* accepted this week, this one too; 0 = not said */
};

/* Pack one event each into a record that was begun for its kind. Longer texts
 * than the contract allows are cut; a hex text is left out instead, since half
 * a hash is useless. */
void tbg_record_share(struct tbg_record *record, const struct tbg_share *share);
void tbg_record_best(struct tbg_record *record, const struct tbg_best_broken *broken);
/* `hash`, as explorers show it, is used in place of the block's own words (NULL: those
 * are); false when they do not say the same. */
bool tbg_record_block(struct tbg_record *record, const struct tbg_block *block,
		      const char *hash);
void tbg_record_connected(struct tbg_record *record, const struct tbg_connected *connected);
void tbg_record_disconnected(struct tbg_record *record, const struct tbg_session *session,
			     const struct tbg_disconnected *disconnected);
void tbg_record_diff(struct tbg_record *record, const struct tbg_diff *diff);
void tbg_record_hashrate(struct tbg_record *record, const struct tbg_hashrate *hashrate);
void tbg_record_tip(struct tbg_record *record, const struct tbg_tip *tip);

/* Writes the record as one JSON object into `buffer` (tbg_write.c), with its proof
 * unless that is NULL or does not fit. The sender thread does this: it must run
 * with floating-point traps off.
 *
 * Returns its length, or 0 if the event does not fit the contract:
 * a required number that is not finite, not above zero or out of bounds, no
 * user, no hash of a block. */
size_t tbg_record_write(const struct tbg_record *record, const struct tbg_proof *proof,
			const char *source, const char *instance, char *buffer, size_t size);

/* An engine_status: how far a boot is, or how it ended. No event: it has no number. */
struct tbg_status {
	const char *instance, *state;
	int64_t timestamp;	/* microseconds since the epoch */
	uint64_t last_seq;	/* the highest number that the boot gave */
	int64_t unsent;		/* of its numbers, never given to the socket; < 0: unknown */
};

/* Writes one as a JSON object and returns its length; 0 if it does not fit. */
size_t tbg_status_write(const struct tbg_status *status, const char *source, char *buffer,
			size_t size);

#endif
