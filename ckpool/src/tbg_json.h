/*
 * Part of The Bitcoin Game's ckpool fork.
 * Copyright (C) 2026 The Bitcoin Game
 * SPDX-License-Identifier: GPL-3.0-or-later
 */

/* Writing JSON text into a fixed buffer: escaping and numbers. No call here
 * allocates, and none can write past the buffer: when it is full, `full` is
 * set, and nothing more is written. */

#ifndef TBG_JSON_H
#define TBG_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tbg_json {
	char *at;	/* where the next byte goes */
	char *end;	/* one past the last byte that may be written */
	bool full;	/* something did not fit: the text must not be used */
};

/* Makes the C locale for number formatting. Call once, before anything else
 * here; false when there is no memory for it. */
bool tbg_json_setup(void);

/* Writes `text` as it is: for keys and punctuation that we wrote ourselves. */
void tbg_json_raw(struct tbg_json *json, const char *text);

/* Writes `length` bytes as a JSON string, quotes included. The bytes may be
 * anything: quotes, backslashes and control bytes are escaped, and each byte
 * that is not part of well-formed UTF-8 (RFC 3629) becomes U+FFFD. Where
 * `cut` says that the text was cut off at `length`, an incomplete sequence at
 * its end is left out instead. */
void tbg_json_string(struct tbg_json *json, const char *text, size_t length, bool cut);

/* Writes `length` bytes as a JSON string of hex digits, quotes included. */
void tbg_json_hex(struct tbg_json *json, const unsigned char *bytes, size_t length);

void tbg_json_int(struct tbg_json *json, int64_t number);

/* Writes a double so that reading it gives the same double back: in 15 digits
 * if they suffice, else in 16 or 17, and always with a '.' or an exponent,
 * whatever the process's locale. Anything but a finite number sets `full`, since
 * JSON cannot express it. Must run with floating-point traps off. */
void tbg_json_double(struct tbg_json *json, double number);

/* A double's bits, which can be looked at without an exception. */
uint64_t tbg_bits_of(double number);

/* Whether `number` is finite, asked of its bits alone: comparing a NaN would
 * raise FE_INVALID, which ckpool traps. */
bool tbg_is_finite(double number);

/* Whether `number` is finite and above zero; raises no exception. */
bool tbg_is_positive(double number);

/* Whether `number` can be a difficulty of the contract: from 1e-12, far below that of
 * the easiest hash, to 2^224, about that of the hardest; raises no exception. */
bool tbg_is_difficulty(double number);

#endif
