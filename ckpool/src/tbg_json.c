/*
 * Part of The Bitcoin Game's ckpool fork.
 * Copyright (C) 2026 The Bitcoin Game
 * SPDX-License-Identifier: GPL-3.0-or-later
 */

#define _GNU_SOURCE

#include "tbg_json.h"

#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static locale_t c_locale;

bool tbg_json_setup(void)
{
	if (!c_locale)
		c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
	return c_locale != (locale_t)0;
}

static void put(struct tbg_json *json, const char *bytes, size_t length)
{
	if (json->full || (size_t)(json->end - json->at) < length) {
		json->full = true;
		return;
	}
	memcpy(json->at, bytes, length);
	json->at += length;
}

void tbg_json_raw(struct tbg_json *json, const char *text)
{
	put(json, text, strlen(text));
}

/* The length of the UTF-8 sequence that starts at `s`, of which `left` bytes
 * are there; 0 when it is malformed, -1 when it is well-formed so far but ends
 * before it is complete. The bounds of the second byte are those of RFC 3629,
 * section 4: no overlong forms, no surrogates, nothing above U+10FFFF. */
static int utf8_length(const unsigned char *s, size_t left)
{
	unsigned char low = 0x80, high = 0xbf;
	int length, i;

	if (s[0] < 0x80)
		return 1;
	if (s[0] >= 0xc2 && s[0] <= 0xdf)
		length = 2;
	else if (s[0] >= 0xe0 && s[0] <= 0xef)
		length = 3;
	else if (s[0] >= 0xf0 && s[0] <= 0xf4)
		length = 4;
	else
		return 0;
	if (s[0] == 0xe0)
		low = 0xa0;
	else if (s[0] == 0xed)
		high = 0x9f;
	else if (s[0] == 0xf0)
		low = 0x90;
	else if (s[0] == 0xf4)
		high = 0x8f;
	for (i = 1; i < length; i++) {
		if ((size_t)i >= left)
			return -1;
		if (s[i] < low || s[i] > high)
			return 0;
		low = 0x80;
		high = 0xbf;
	}
	return length;
}

static void put_control(struct tbg_json *json, unsigned char byte)
{
	static const char hex[] = "0123456789abcdef";
	char escape[6] = { '\\', 'u', '0', '0', hex[byte >> 4], hex[byte & 15] };

	put(json, escape, sizeof(escape));
}

void tbg_json_string(struct tbg_json *json, const char *text, size_t length, bool cut)
{
	const unsigned char *s = (const unsigned char *)text;
	size_t i = 0;

	put(json, "\"", 1);
	while (i < length) {
		int n = utf8_length(s + i, length - i);

		if (n < 0 && cut)
			break;
		if (n <= 0) {
			put(json, "\xef\xbf\xbd", 3);
			n = 1;
		} else if (s[i] == '"' || s[i] == '\\') {
			put(json, "\\", 1);
			put(json, text + i, 1);
		} else if (s[i] < 0x20) {
			put_control(json, s[i]);
		} else {
			put(json, text + i, (size_t)n);
		}
		i += (size_t)n;
	}
	put(json, "\"", 1);
}

void tbg_json_hex(struct tbg_json *json, const unsigned char *bytes, size_t length)
{
	static const char digits[] = "0123456789abcdef";
	size_t i;

	if ((size_t)(json->end - json->at) < 2 * length + 2)
		json->full = true;
	if (json->full)
		return;
	*json->at++ = '"';
	for (i = 0; i < length; i++) {
		*json->at++ = digits[bytes[i] >> 4];
		*json->at++ = digits[bytes[i] & 15];
	}
	*json->at++ = '"';
}

void tbg_json_int(struct tbg_json *json, int64_t number)
{
	char digits[20], *at = digits + sizeof(digits);
	uint64_t rest = number < 0 ? 0 - (uint64_t)number : (uint64_t)number;

	do {
		*--at = (char)('0' + rest % 10);
		rest /= 10;
	} while (rest);
	if (number < 0)
		put(json, "-", 1);
	put(json, at, (size_t)(digits + sizeof(digits) - at));
}

uint64_t tbg_bits_of(double number)
{
	uint64_t bits;

	memcpy(&bits, &number, sizeof(bits));
	return bits;
}

bool tbg_is_finite(double number)
{
	return (tbg_bits_of(number) >> 52 & 0x7ff) != 0x7ff;
}

bool tbg_is_positive(double number)
{
	uint64_t bits = tbg_bits_of(number);

	return bits && !(bits >> 63) && (bits >> 52) != 0x7ff;
}

void tbg_json_double(struct tbg_json *json, double number)
{
	locale_t previous;
	char text[32];
	int digits;

	if (!tbg_is_finite(number)) {
		json->full = true;
		return;
	}
	/* Whole numbers up to 2^53 are exact as integers, and the commonest. */
	if (number >= -9007199254740992.0 && number <= 9007199254740992.0 &&
	    (double)(int64_t)number == number) {
		tbg_json_int(json, (int64_t)number);
		put(json, ".0", 2);
		return;
	}
	previous = uselocale(c_locale);
	for (digits = 15; digits <= 17; digits++) {
		snprintf(text, sizeof(text), "%.*g", digits, number);
		if (digits == 17 || strtod(text, NULL) == number)
			break;
	}
	uselocale(previous);
	put(json, text, strlen(text));
	if (!strpbrk(text, ".e"))
		put(json, ".0", 2);
}

bool tbg_is_difficulty(double number)
{
	return tbg_is_positive(number) && number >= 1e-12 && number <= 0x1p224;
}
