/*
 * Part of The Bitcoin Game's ckpool fork.
 * Copyright (C) 2026 The Bitcoin Game
 * SPDX-License-Identifier: GPL-3.0-or-later
 */

#include <arpa/inet.h>
#include <string.h>

#include "tbg_json.h"
#include "tbg_record.h"
#include "tbg_week.h"

#define MAX_MONEY ((int64_t)21000000 * 100000000)	/* satoshis, consensus/amount.h */

#define MAX_RATE 1e24	/* H/s, of the contract; no pool has a thousandth of it */

/* Turning records into JSON. `key` holds the comma, the quotes and the colon. */

static void write_text(struct tbg_json *json, const struct tbg_record *record,
		       const char *key, enum tbg_text which)
{
	tbg_json_raw(json, key);
	if (record->length[which] == TBG_NONE)
		tbg_json_raw(json, "null");
	else
		tbg_json_string(json, record->area + record->at[which], record->length[which],
				record->cut >> which & 1);
}

/* An even number of hex digits, as many as the field must have (0 = any), else
 * null; returns whether it was hex. */
static bool write_hex(struct tbg_json *json, const struct tbg_record *record, const char *key,
		      enum tbg_text which, uint16_t digits)
{
	const char *text = record->area + record->at[which];
	uint16_t length = record->length[which], i;

	tbg_json_raw(json, key);
	if (length == TBG_NONE || !length || length % 2 || (digits && length != digits))
		goto null;
	for (i = 0; i < length; i++) {
		if (!memchr(TBG_HEX, text[i], strlen(TBG_HEX)))
			goto null;
	}
	tbg_json_string(json, text, length, false);
	return true;
null:
	tbg_json_raw(json, "null");
	return false;
}

/* A hash that the contract requires. */
static void write_hash(struct tbg_json *json, const struct tbg_record *record, const char *key)
{
	if (!write_hex(json, record, key, TBG_HASH, TBG_CAP_HASH))
		json->full = true;
}

/* Whether the record's IP text is an address, as the contract demands. */
static bool has_ip(const struct tbg_record *record)
{
	char text[TBG_CAP_IP + 1];
	unsigned char address[16];
	uint16_t length = record->length[TBG_IP];

	if (length == TBG_NONE || length > TBG_CAP_IP)
		return false;
	memcpy(text, record->area + record->at[TBG_IP], length);
	text[length] = '\0';
	return inet_pton(AF_INET, text, address) == 1 || inet_pton(AF_INET6, text, address) == 1;
}

/* If the contract requires an address and ckpool had none, the event carries the
 * unspecified address instead of being lost. */
static void write_ip(struct tbg_json *json, const struct tbg_record *record, bool required)
{
	if (has_ip(record))
		write_text(json, record, ",\"ip\":", TBG_IP);
	else
		tbg_json_raw(json, required ? ",\"ip\":\"0.0.0.0\"" : ",\"ip\":null");
}

static void write_double(struct tbg_json *json, const char *key, double number)
{
	tbg_json_raw(json, key);
	tbg_json_double(json, number);
}

static void write_difficulty(struct tbg_json *json, const char *key, double number)
{
	if (!tbg_is_difficulty(number))
		json->full = true;
	write_double(json, key, number);
}

static void write_difficulty_or_null(struct tbg_json *json, const char *key, double number)
{
	tbg_json_raw(json, key);
	if (tbg_is_difficulty(number))
		tbg_json_double(json, number);
	else
		tbg_json_raw(json, "null");
}

/* A best difficulty, zero if there is none. */
static void write_best_of(struct tbg_json *json, const char *key, double number)
{
	write_double(json, key, tbg_is_difficulty(number) ? number : 0.0);
}

/* Zero if the number is negative or not finite. */
static void write_not_negative(struct tbg_json *json, const char *key, double number)
{
	write_double(json, key, tbg_is_positive(number) ? number : 0.0);
}

static void write_int(struct tbg_json *json, const char *key, int64_t number)
{
	tbg_json_raw(json, key);
	tbg_json_int(json, number);
}

/* A number that the contract requires to lie in [0, most]. */
static void write_bounded(struct tbg_json *json, const char *key, int64_t number, int64_t most)
{
	if (number < 0 || number > most)
		json->full = true;
	write_int(json, key, number);
}

static void write_client_id(struct tbg_json *json, const struct tbg_record *record)
{
	if (record->client_id >= 0)
		write_int(json, ",\"client_id\":", record->client_id);
	else
		tbg_json_raw(json, ",\"client_id\":null");
}

static void write_miner(struct tbg_json *json, const struct tbg_record *record)
{
	if (record->length[TBG_USER] == TBG_NONE || !record->length[TBG_USER])
		json->full = true;	/* the contract has no event without a user */
	write_text(json, record, "\"user\":", TBG_USER);
	write_text(json, record, ",\"worker\":", TBG_WORKER);
}

static void write_share(struct tbg_json *json, const struct tbg_record *record)
{
	uint32_t bits = htonl(record->version_bits);

	write_miner(json, record);
	write_difficulty(json, ",\"difficulty\":", record->number[SHARE_ASSIGNED]);
	/* An accepted share achieved at least what was asked. */
	write_difficulty_or_null(json, ",\"share_diff\":",
			       record->valid && !tbg_is_difficulty(record->number[SHARE_ACHIEVED]) ?
			       record->number[SHARE_ASSIGNED] : record->number[SHARE_ACHIEVED]);
	tbg_json_raw(json, record->valid ? ",\"valid\":true" : ",\"valid\":false");
	write_text(json, record, ",\"reject_reason\":", TBG_REASON);
	write_text(json, record, ",\"job_id\":", TBG_JOB_ID);
	write_hex(json, record, ",\"nonce\":", TBG_NONCE, 0);
	write_hex(json, record, ",\"nonce2\":", TBG_NONCE2, 0);
	write_ip(json, record, true);
	write_client_id(json, record);
	write_hex(json, record, ",\"ntime\":", TBG_NTIME, 0);
	write_hex(json, record, ",\"hash\":", TBG_HASH, TBG_CAP_HASH);
	write_text(json, record, ",\"user_agent\":", TBG_USER_AGENT);
	if (bits) {
		tbg_json_raw(json, ",\"version_bits\":");
		tbg_json_hex(json, (const unsigned char *)&bits, sizeof(bits));
	}
	/* ckpool starts with an impossibly large one. */
	if (tbg_is_positive(record->number[SHARE_NETWORK]) &&
	    record->number[SHARE_NETWORK] < 1e19)
		write_double(json, ",\"network_difficulty\":", record->number[SHARE_NETWORK]);
}

static void write_best(struct tbg_json *json, const struct tbg_record *record)
{
	char week[9];

	tbg_week_text(record->week, week);
	write_miner(json, record);
	write_difficulty(json, ",\"new_best_diff\":", record->number[BEST_NEW]);
	write_best_of(json, ",\"previous_best_diff\":", record->number[BEST_PREVIOUS]);
	write_text(json, record, ",\"period\":", TBG_REASON);
	tbg_json_raw(json, ",\"week\":\"");
	tbg_json_raw(json, week);
	tbg_json_raw(json, "\"");
	write_hex(json, record, ",\"hash\":", TBG_HASH, TBG_CAP_HASH);
	if (record->week_shares > 0)
		write_int(json, ",\"week_shares\":", record->week_shares);
}

static void write_block(struct tbg_json *json, const struct tbg_record *record)
{
	write_miner(json, record);
	write_bounded(json, ",\"height\":", record->height, INT32_MAX);
	write_hash(json, record, ",\"hash\":");
	write_hex(json, record, ",\"prev_hash\":", TBG_PREV_HASH, TBG_CAP_HASH);
	write_difficulty(json, ",\"difficulty\":", record->number[BLOCK_ACHIEVED]);
	write_difficulty(json, ",\"network_difficulty\":", record->number[BLOCK_NETWORK]);
	write_bounded(json, ",\"reward_sats\":", record->reward, MAX_MONEY);
	if (record->fees >= 0)
		write_int(json, ",\"fees_sats\":", record->fees);
	write_hex(json, record, ",\"nonce\":", TBG_NONCE, 0);
	if (record->length[TBG_JOB_ID] == TBG_NONE)
		tbg_json_raw(json, ",\"coinbase_sig\":\"\"");
	else
		write_text(json, record, ",\"coinbase_sig\":", TBG_JOB_ID);
}

static void write_connected(struct tbg_json *json, const struct tbg_record *record)
{
	write_miner(json, record);
	write_ip(json, record, true);
	write_difficulty(json, ",\"initial_diff\":", record->number[CONNECTED_DIFF]);
	write_client_id(json, record);
	write_text(json, record, ",\"user_agent\":", TBG_USER_AGENT);
	write_text(json, record, ",\"protocol\":", TBG_REASON);
}

static void write_gone(struct tbg_json *json, const struct tbg_record *record)
{
	write_miner(json, record);
	write_not_negative(json, ",\"session_duration\":", record->number[GONE_DURATION]);
	write_client_id(json, record);
	write_ip(json, record, false);
	write_int(json, ",\"shares_accepted\":", record->accepted);
	write_int(json, ",\"shares_rejected\":", record->rejected);
	write_best_of(json, ",\"best_diff_session\":", record->number[GONE_BEST]);
	write_text(json, record, ",\"reason\":", TBG_REASON);
}

static void write_diff(struct tbg_json *json, const struct tbg_record *record)
{
	write_miner(json, record);
	write_difficulty(json, ",\"old_diff\":", record->number[DIFF_OLD]);
	write_difficulty(json, ",\"new_diff\":", record->number[DIFF_NEW]);
	write_client_id(json, record);
	write_text(json, record, ",\"reason\":", TBG_REASON);
}

static void write_rate(struct tbg_json *json, const char *key, double dsps)
{
	double rate = tbg_is_positive(dsps) ? dsps * 4294967296.0 : 0.0;

	write_not_negative(json, key, rate > MAX_RATE ? 0.0 : rate);
}

static void write_hashrate(struct tbg_json *json, const struct tbg_record *record)
{
	write_miner(json, record);
	write_rate(json, ",\"hashrate_1m\":", record->number[RATE_1M]);
	write_rate(json, ",\"hashrate_5m\":", record->number[RATE_5M]);
	write_rate(json, ",\"hashrate_1h\":", record->number[RATE_1H]);
	write_rate(json, ",\"hashrate_24h\":", record->number[RATE_24H]);
}

static void write_tip(struct tbg_json *json, const struct tbg_record *record)
{
	write_bounded(json, "\"height\":", record->height, INT32_MAX);
	write_hash(json, record, ",\"hash\":");
	write_difficulty(json, ",\"network_difficulty\":", record->number[TIP_NETWORK]);
	if (record->length[TBG_PREV_HASH] != TBG_NONE)
		write_hex(json, record, ",\"prev_hash\":", TBG_PREV_HASH, TBG_CAP_HASH);
}

static void (*const writers[TBG_KINDS])(struct tbg_json *, const struct tbg_record *) = {
	write_share, write_best, write_block, write_connected,
	write_gone,  write_diff, write_hashrate, write_tip,
};

static void write_proof(struct tbg_json *json, const struct tbg_proof *proof)
{
	const unsigned char *at = proof->bytes + TBG_HEADER;
	int i;

	tbg_json_raw(json, ",\"proof\":{\"header\":");
	tbg_json_hex(json, proof->bytes, TBG_HEADER);
	tbg_json_raw(json, ",\"branch\":[");
	for (i = 0; i < proof->branches; i++, at += 32) {
		if (i)
			tbg_json_raw(json, ",");
		tbg_json_hex(json, at, 32);
	}
	tbg_json_raw(json, "],\"coinbase\":");
	tbg_json_hex(json, at, proof->coinbase_length);
	tbg_json_raw(json, "}");
}

static void write_envelope(struct tbg_json *json, const char *event, int64_t timestamp,
			   const char *source, const char *instance)
{
	tbg_json_raw(json, "{\"event\":\"");
	tbg_json_raw(json, event);
	write_int(json, "\",\"timestamp\":", timestamp);
	tbg_json_raw(json, ",\"source\":");
	tbg_json_string(json, source, strlen(source), false);
	tbg_json_raw(json, ",\"instance\":");
	tbg_json_string(json, instance, strlen(instance), false);
}

size_t tbg_record_write(const struct tbg_record *record, const struct tbg_proof *proof,
			const char *source, const char *instance, char *buffer, size_t size)
{
	struct tbg_json json = { buffer, buffer + size, false };

	write_envelope(&json, tbg_kind_names[record->kind], record->timestamp, source, instance);
	write_int(&json, ",\"seq\":", (int64_t)record->seq);
	tbg_json_raw(&json, ",\"data\":{");
	writers[record->kind](&json, record);
	if (proof)
		write_proof(&json, proof);
	tbg_json_raw(&json, "}}");
	if (json.full && proof)
		return tbg_record_write(record, NULL, source, instance, buffer, size);
	return json.full ? 0 : (size_t)(json.at - buffer);
}

size_t tbg_status_write(const struct tbg_status *status, const char *source, char *buffer,
			size_t size)
{
	struct tbg_json json = { buffer, buffer + size, false };

	write_envelope(&json, "engine_status", status->timestamp, source, status->instance);
	write_int(&json, ",\"data\":{\"last_seq\":", (int64_t)status->last_seq);
	if (status->unsent >= 0)
		write_int(&json, ",\"unsent\":", status->unsent);
	else
		tbg_json_raw(&json, ",\"unsent\":null");
	tbg_json_raw(&json, ",\"state\":\"");
	tbg_json_raw(&json, status->state);
	tbg_json_raw(&json, "\"}}");
	return json.full ? 0 : (size_t)(json.at - buffer);
}
