/*
 * Part of The Bitcoin Game's ckpool fork.
 * Copyright (C) 2026 The Bitcoin Game
 * SPDX-License-Identifier: GPL-3.0-or-later
 */

/* Fuzzing (libFuzzer): whatever texts and numbers an event is made of, it
 * becomes either nothing or one well-formed JSON object in well-formed UTF-8
 * that fits the datagram, with every number finite and read back as it was. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tbg_json.h"
#include "tbg_record.h"

#define MUST(condition) do { \
	if (!(condition)) { \
		fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
		abort(); \
	} \
} while (0)

/* A reader of JSON, written apart from the writer: RFC 8259, and nothing that
 * it merely tolerates. Each returns where what it read ends, or NULL. */

static const char *read_value(const char *at);

/* One UTF-8 code point, decoded and encoded again: only the shortest form of a
 * scalar value survives. */
static const char *read_point(const char *at)
{
	const unsigned char *s = (const unsigned char *)at;
	unsigned long point;
	int length, i;

	if (s[0] < 0x80)
		return at + 1;
	length = (s[0] & 0xe0) == 0xc0 ? 2 : (s[0] & 0xf0) == 0xe0 ? 3 : (s[0] & 0xf8) == 0xf0 ? 4 : 0;
	if (!length)
		return NULL;
	point = s[0] & (0xffu >> (length + 1));
	for (i = 1; i < length; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return NULL;
		point = point << 6 | (s[i] & 0x3f);
	}
	if (point > 0x10ffff || (point >= 0xd800 && point <= 0xdfff) ||
	    point < (length == 2 ? 0x80u : length == 3 ? 0x800u : 0x10000u))
		return NULL;
	return at + length;
}

static const char *read_string(const char *at)
{
	if (*at++ != '"')
		return NULL;
	while (*at != '"') {
		if ((unsigned char)*at < 0x20)
			return NULL;
		if (*at != '\\') {
			at = read_point(at);
			if (!at)
				return NULL;
		} else if (at[1] == 'u') {
			if (strspn(at + 2, "0123456789abcdef") < 4)
				return NULL;
			at += 6;
		} else {
			if (!strchr("\"\\", at[1]))
				return NULL;
			at += 2;
		}
	}
	return at + 1;
}

static const char *read_number(const char *at)
{
	const char *start = at;
	size_t digits;

	at += *at == '-';
	digits = strspn(at, "0123456789");
	if (!digits || (*at == '0' && digits > 1))
		return NULL;
	at += digits;
	if (*at == '.') {
		digits = strspn(++at, "0123456789");
		if (!digits)
			return NULL;
		at += digits;
	}
	if (*at == 'e') {
		at++;
		at += *at == '+' || *at == '-';
		digits = strspn(at, "0123456789");
		if (!digits)
			return NULL;
		at += digits;
	}
	MUST(tbg_is_finite(strtod(start, NULL)));
	return at;
}

static const char *read_object(const char *at)
{
	do {
		at = read_string(at + 1);
		if (!at || *at != ':')
			return NULL;
		at = read_value(at + 1);
	} while (at && *at == ',');
	return at && *at == '}' ? at + 1 : NULL;
}

static const char *read_array(const char *at)
{
	if (at[1] == ']')
		return at + 2;
	do {
		at = read_value(at + 1);
	} while (at && *at == ',');
	return at && *at == ']' ? at + 1 : NULL;
}

static const char *read_value(const char *at)
{
	if (*at == '{')
		return read_object(at);
	if (*at == '[')
		return read_array(at);
	if (*at == '"')
		return read_string(at);
	if (!strncmp(at, "null", 4) || !strncmp(at, "true", 4))
		return at + 4;
	if (!strncmp(at, "false", 5))
		return at + 5;
	return read_number(at);
}

/* The input, handed out piece by piece. */

static const uint8_t *input;
static size_t left;

static uint64_t take(size_t bytes)
{
	uint64_t number = 0;

	if (bytes > left)
		bytes = left;
	memcpy(&number, input, bytes);
	input += bytes;
	left -= bytes;
	return number;
}

static double take_double(void)
{
	uint64_t bits = take(8);
	double number;

	memcpy(&number, &bits, sizeof(number));
	return number;
}

/* A text of its own allocation, so that reading past its end is seen. */
static char *take_text(void)
{
	size_t length = take(1);
	char *text;

	if (length == 255)
		return NULL;
	if (length == 254)
		length = take(2);
	if (length > left)
		length = left;
	text = malloc(length + 1);
	memcpy(text, input, length);
	text[length] = '\0';
	input += length;
	left -= length;
	return text;
}

static void fill(struct tbg_record *record, enum tbg_kind kind, char *text[8])
{
	struct tbg_session session = { take(8), take(8), take(8), take(8) };

	switch (kind) {
	case TBG_SHARE_SUBMITTED:
		tbg_record_share(record, &(struct tbg_share){
			text[0], text[1], take_double(), take_double(), take(1) & 1, text[2],
			text[3], text[4], text[5], text[6], text[7], text[2], text[3],
			(int64_t)take(8), (uint32_t)take(4), take_double() });
		break;
	case TBG_SHARE_BEST_DIFF:
		tbg_record_best(record, &(struct tbg_best_broken){
			text[0], text[1], text[7], text[2], (uint32_t)take(4), take_double(),
			take_double(), (int64_t)take(8) });
		break;
	case TBG_BLOCK_FOUND:
		tbg_record_block(record, &(struct tbg_block){
			text[0], text[1], text[4], text[2], text[7], text[6], (int64_t)take(8),
			(int64_t)take(8), (int64_t)take(2), take_double(), take_double() },
			take(1) % 2 ? text[2] : NULL);
		break;
	case TBG_MINER_CONNECTED:
		tbg_record_connected(record, &(struct tbg_connected){
			text[0], text[1], text[2], text[3], text[4], (int64_t)take(8),
			take_double(), take_double(), NULL });
		break;
	case TBG_MINER_DISCONNECTED:
		tbg_record_disconnected(record, &session, &(struct tbg_disconnected){
			text[0], text[1], text[2], text[3], (int64_t)take(8), (int64_t)take(6) });
		break;
	case TBG_DIFF_UPDATED:
		tbg_record_diff(record, &(struct tbg_diff){ text[0], text[1], text[2],
							    (int64_t)take(8), take_double(),
							    take_double() });
		break;
	case TBG_HASHRATE_UPDATE:
		tbg_record_hashrate(record, &(struct tbg_hashrate){
			text[0], text[1], take_double(), take_double(), take_double(),
			take_double() });
		break;
	default:
		tbg_record_tip(record, &(struct tbg_tip){ text[7], text[6], (int64_t)take(8),
							  take_double() });
	}
}

static void fill_proof(struct tbg_proof *proof)
{
	static unsigned char coinbase[4096], branch[TBG_BRANCH_MAX][32];
	int length = (int)(int16_t)take(2), branches = (int)(int8_t)take(1);

	memset(branch, (int)take(1), sizeof(branch));
	tbg_proof_copy(proof, branch[0], coinbase, coinbase, length % 4097, branch, branches);
	MUST(TBG_HEADER + 32 * proof->branches + proof->coinbase_length <= TBG_PROOF_MAX ||
	     !proof->coinbase_length);
}

static void check_double(double number)
{
	char text[64];
	struct tbg_json json = { text, text + sizeof(text) - 1, false };

	tbg_json_double(&json, number);
	*json.at = '\0';
	if (json.full)
		MUST(!tbg_is_finite(number));
	else
		MUST(*read_number(text) == '\0' && strtod(text, NULL) == number);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct tbg_record record;
	static struct tbg_proof proof;
	char json[TBG_DATAGRAM_MAX + 1], without[TBG_DATAGRAM_MAX + 1] = "";
	char *text[8];
	enum tbg_kind kind;
	size_t length, room;
	int i;

	if (!tbg_json_setup())
		abort();
	input = data;
	left = size;
	kind = take(1) % TBG_KINDS;
	check_double(take_double());
	for (i = 0; i < 8; i++)
		text[i] = take_text();
	tbg_record_begin(&record, kind);
	fill(&record, kind, text);
	for (i = 0; i < 8; i++)
		free(text[i]);
	fill_proof(&proof);
	length = tbg_record_write(&record, proof.coinbase_length ? &proof : NULL, "hosted", "fuzz/1",
				  json, TBG_DATAGRAM_MAX);
	MUST((length == 0) == (tbg_record_write(&record, NULL, "hosted", "fuzz/1", without,
						TBG_DATAGRAM_MAX) == 0));
	if (length) {
		json[length] = '\0';
		MUST(strlen(json) == length);
		MUST(read_value(json) == json + length);
		/* In less room it is all or nothing. */
		room = length - 1 - take(2) % length;
		MUST(tbg_record_write(&record, NULL, "hosted", "fuzz/1", json,
				      room < strlen(without) ? room : 0) == 0);
	}
	return 0;
}
