/*
 * Part of The Bitcoin Game's ckpool fork.
 * Copyright (C) 2026 The Bitcoin Game
 * SPDX-License-Identifier: GPL-3.0-or-later
 */

#include "tbg_record.h"

#include <string.h>
#include <time.h>

#include "tbg_json.h"
#include "tbg_name.h"

const char *const tbg_kind_names[TBG_KINDS] = {
	"share_submitted",    "share_best_diff", "block_found",	    "miner_connected",
	"miner_disconnected", "diff_updated",	 "hashrate_update", "new_block_network",
};

static const uint16_t caps[TBG_TEXTS] = {
	[TBG_USER] = TBG_CAP_USER,	 [TBG_WORKER] = TBG_CAP_WORKER,
	[TBG_REASON] = TBG_CAP_REASON,	 [TBG_JOB_ID] = TBG_CAP_JOB_ID,
	[TBG_NONCE] = TBG_CAP_NONCE,	 [TBG_NONCE2] = TBG_CAP_NONCE2,
	[TBG_IP] = TBG_CAP_IP,		 [TBG_NTIME] = TBG_CAP_NTIME,
	[TBG_HASH] = TBG_CAP_HASH,	 [TBG_PREV_HASH] = TBG_CAP_HASH,
	[TBG_USER_AGENT] = TBG_CAP_USER_AGENT,
};

/* A share carries every text but the previous hash, and no other event carries
 * more: whatever their lengths, they fit. And escaped at six bytes for one,
 * with the keys and numbers around them, every event fits the datagram. */
_Static_assert(TBG_CAP_USER + TBG_CAP_WORKER + TBG_CAP_REASON + TBG_CAP_JOB_ID + TBG_CAP_NONCE +
	       TBG_CAP_NONCE2 + TBG_CAP_IP + TBG_CAP_NTIME + TBG_CAP_HASH +
	       TBG_CAP_USER_AGENT <= TBG_TEXT_AREA, "the texts of a share must fit the area");
_Static_assert(TBG_TEXT_AREA * 6 + 2048 <= TBG_DATAGRAM_MAX,
	       "an event must fit a datagram however much is escaped");
_Static_assert(TBG_TEXTS <= 16, "one bit per text in `cut`");

static bool is_hex_text(enum tbg_text which)
{
	return which == TBG_NONCE || which == TBG_NONCE2 || which == TBG_NTIME ||
	       which == TBG_HASH || which == TBG_PREV_HASH;
}

void tbg_record_begin(struct tbg_record *record, enum tbg_kind kind)
{
	struct timespec now;
	int i;

	clock_gettime(CLOCK_REALTIME, &now);
	memset(record, 0, offsetof(struct tbg_record, at));
	record->timestamp = (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
	record->client_id = -1;
	record->fees = -1;
	record->kind = (uint8_t)kind;
	record->cut = 0;
	for (i = 0; i < TBG_TEXTS; i++)
		record->length[i] = TBG_NONE;
}

static void span(struct tbg_record *record, enum tbg_text which, const char *from, size_t length)
{
	if (length > caps[which]) {
		if (is_hex_text(which))
			return;
		length = caps[which];
		record->cut |= (uint16_t)(1u << which);
	}
	memcpy(record->area + record->used, from, length);
	record->at[which] = record->used;
	record->length[which] = (uint16_t)length;
	record->used = (uint16_t)(record->used + length);
}

static void text(struct tbg_record *record, enum tbg_text which, const char *from)
{
	if (from)
		span(record, which, from, strnlen(from, (size_t)caps[which] + 1));
}

static void miner(struct tbg_record *record, const char *user, const char *workername)
{
	struct tbg_name parts = tbg_name_split(user);

	if (user)
		span(record, TBG_USER, parts.user, parts.user_length);
	parts = tbg_name_split(workername);
	span(record, TBG_WORKER, parts.worker, parts.worker_length);
}

/* A number in hex as the contract wants it: whole bytes, at least `digits` digits.
 * Firmware leaves leading zeros out. A text that is not hex is dropped, unless it
 * must be there because a share was accepted by it: then its readable start is kept. */
static void hex(struct tbg_record *record, enum tbg_text which, const char *from, size_t digits,
		bool must)
{
	char padded[TBG_CAP_NONCE2 + 1];
	size_t length, zeros;

	if (!from) {
		if (!must)
			return;
		from = "";
	}
	length = strspn(from, TBG_HEX);
	if (!must && (!length || from[length] || length > caps[which]))
		return;
	if (length > caps[which])
		length = caps[which];
	zeros = length < digits ? digits - length : length % 2;
	memset(padded, '0', zeros);
	memcpy(padded + zeros, from, length);
	span(record, which, padded, zeros + length);
}

char *tbg_padded_nonce(const char *nonce, char room[9])
{
	size_t length = nonce ? strspn(nonce, TBG_HEX) : 0;

	if (!length || length > 7 || nonce[length])
		return (char *)nonce;
	memset(room, '0', 8 - length);
	memcpy(room + 8 - length, nonce, length + 1);
	return room;
}

void tbg_record_share(struct tbg_record *record, const struct tbg_share *share)
{
	miner(record, share->user, share->workername);
	record->number[SHARE_ASSIGNED] = share->diff;
	record->number[SHARE_ACHIEVED] = share->share_diff;
	record->number[SHARE_NETWORK] = share->network_diff;
	record->valid = share->valid;
	if (!share->valid)
		text(record, TBG_REASON, share->reject_reason ? share->reject_reason : "unknown");
	text(record, TBG_JOB_ID, share->valid && !share->job_id ? "" : share->job_id);
	hex(record, TBG_NONCE, share->nonce, 8, share->valid);
	hex(record, TBG_NONCE2, share->nonce2, 2, share->valid);
	hex(record, TBG_NTIME, share->ntime, 8, false);
	text(record, TBG_HASH, share->hash);
	text(record, TBG_IP, share->ip);
	text(record, TBG_USER_AGENT, share->user_agent);
	record->client_id = share->client_id;
	record->version_bits = share->version_bits;
}

void tbg_record_best(struct tbg_record *record, const struct tbg_best_broken *broken)
{
	miner(record, broken->user, broken->workername);
	text(record, TBG_REASON, broken->period);
	text(record, TBG_HASH, broken->hash);
	record->number[BEST_NEW] = broken->new_best;
	record->number[BEST_PREVIOUS] = broken->previous_best;
	record->week = broken->week;
	record->week_shares = broken->week_shares;
}

/* The block subsidy in satoshis: 50 BTC, halved every `halving` blocks
 * (Bitcoin Core's GetBlockSubsidy). */
static int64_t subsidy(int64_t height, int64_t halving)
{
	int64_t halvings = height / halving;

	return halvings > 63 ? 0 : (int64_t)5000000000 >> halvings;
}

/* ckpool keeps the hash of a block and of the one before it with the eight
 * words in reverse order (flip_32 in process_block, swap_256 in gen_gbtbase);
 * explorers, its shares and we show it as the node says it. */
static bool hash_of_words(const char *words, char hash[TBG_CAP_HASH + 1])
{
	int i;

	if (!words || strnlen(words, TBG_CAP_HASH + 1) != TBG_CAP_HASH)
		return false;
	for (i = 0; i < 8; i++)
		memcpy(hash + 8 * i, words + 8 * (7 - i), 8);
	hash[TBG_CAP_HASH] = '\0';
	return true;
}

bool tbg_record_block(struct tbg_record *record, const struct tbg_block *block,
		      const char *hash)
{
	char of_words[TBG_CAP_HASH + 1], before[TBG_CAP_HASH + 1];
	bool has_words = hash_of_words(block->hash_words, of_words);

	miner(record, block->user, block->workername);
	text(record, TBG_HASH, hash ? hash : has_words ? of_words : NULL);
	if (hash_of_words(block->prev_words, before))
		text(record, TBG_PREV_HASH, before);
	hex(record, TBG_NONCE, block->nonce, 8, false);
	text(record, TBG_JOB_ID, block->coinbase_sig);
	record->height = block->height;
	record->reward = block->reward;
	if (block->halving > 0 && block->height >= 0 && block->reward >= 0)
		record->fees = block->reward - subsidy(block->height, block->halving);
	record->number[BLOCK_ACHIEVED] = block->share_diff;
	record->number[BLOCK_NETWORK] = block->network_diff;
	return !hash || (has_words && !strcmp(hash, of_words));
}

void tbg_record_connected(struct tbg_record *record, const struct tbg_connected *connected)
{
	miner(record, connected->user, connected->workername);
	text(record, TBG_IP, connected->ip);
	text(record, TBG_USER_AGENT, connected->user_agent);
	text(record, TBG_REASON, connected->protocol);
	record->client_id = connected->client_id;
	record->number[CONNECTED_DIFF] = connected->diff;
}

void tbg_record_disconnected(struct tbg_record *record, const struct tbg_session *session,
			     const struct tbg_disconnected *disconnected)
{
	uint64_t best = atomic_load_explicit(&session->best, memory_order_relaxed);

	miner(record, disconnected->user, disconnected->workername);
	text(record, TBG_IP, disconnected->ip);
	text(record, TBG_REASON, disconnected->reason);
	record->client_id = disconnected->client_id;
	record->accepted =
		(int64_t)atomic_load_explicit(&session->accepted, memory_order_relaxed);
	record->rejected =
		(int64_t)atomic_load_explicit(&session->rejected, memory_order_relaxed);
	record->number[GONE_DURATION] =
		((double)record->timestamp - (double)disconnected->since) / 1e6;
	memcpy(&record->number[GONE_BEST], &best, sizeof(best));
}

void tbg_record_diff(struct tbg_record *record, const struct tbg_diff *diff)
{
	miner(record, diff->user, diff->workername);
	text(record, TBG_REASON, diff->reason);
	record->client_id = diff->client_id;
	record->number[DIFF_OLD] = diff->old_diff;
	record->number[DIFF_NEW] = diff->new_diff;
}

void tbg_record_hashrate(struct tbg_record *record, const struct tbg_hashrate *hashrate)
{
	/* Shares per second here. tbg_write.c converts them to hashes, with the
	 * traps for NaN off. */
	miner(record, hashrate->user, hashrate->workername);
	record->number[RATE_1M] = hashrate->dsps_1m;
	record->number[RATE_5M] = hashrate->dsps_5m;
	record->number[RATE_1H] = hashrate->dsps_1h;
	record->number[RATE_24H] = hashrate->dsps_24h;
}

void tbg_record_tip(struct tbg_record *record, const struct tbg_tip *tip)
{
	text(record, TBG_HASH, tip->hash);
	text(record, TBG_PREV_HASH, tip->prev_hash);
	record->height = tip->height;
	record->number[TIP_NETWORK] = tip->network_diff;
}
