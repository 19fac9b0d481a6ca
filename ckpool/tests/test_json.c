/*
 * Part of The Bitcoin Game's ckpool fork.
 * Copyright (C) 2026 The Bitcoin Game
 * SPDX-License-Identifier: GPL-3.0-or-later
 */

/* Escaping and numbers. */

#include <fenv.h>
#include <locale.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>

#include "check.h"
#include "tbg_json.h"

static char buffer[512];

static const char *escaped(const char *text, size_t length, bool cut)
{
	struct tbg_json json = { buffer, buffer + sizeof(buffer) - 1, false };

	tbg_json_string(&json, text, length, cut);
	*json.at = '\0';
	return buffer;
}

static const char *number(double value)
{
	struct tbg_json json = { buffer, buffer + sizeof(buffer) - 1, false };

	tbg_json_double(&json, value);
	*json.at = '\0';
	return json.full ? "full" : buffer;
}

static const char *integer(int64_t value)
{
	struct tbg_json json = { buffer, buffer + sizeof(buffer) - 1, false };

	tbg_json_int(&json, value);
	*json.at = '\0';
	return buffer;
}

static void strings(void)
{
	check_text(escaped("rig-1", 5, false), "\"rig-1\"", "plain text stays as it is");
	check_text(escaped("a\"b\\c", 5, false), "\"a\\\"b\\\\c\"",
		   "quotes and backslashes are escaped");
	check_text(escaped("\0\x01\n\x1f\x7f", 5, false), "\"\\u0000\\u0001\\u000a\\u001f\x7f\"",
		   "control bytes are escaped");
	check_text(escaped("\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", 9, false),
		   "\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\"", "well-formed UTF-8 stays as it is");
	check_text(escaped("\xff\x80x", 3, false), "\"\xef\xbf\xbd\xef\xbf\xbdx\"",
		   "stray bytes become U+FFFD, one each");
	check_text(escaped("\xc0\xaf", 2, false), "\"\xef\xbf\xbd\xef\xbf\xbd\"",
		   "an overlong form is malformed");
	check_text(escaped("\xed\xa0\x80", 3, false), "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"",
		   "a surrogate is malformed");
	check_text(escaped("\xf4\x90\x80\x80", 4, false),
		   "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"",
		   "what lies above U+10FFFF is malformed");
	check_text(escaped("ab\xe2\x82", 4, true), "\"ab\"",
		   "a sequence that cutting left incomplete is left out");
	check_text(escaped("ab\xe2\x82", 4, false), "\"ab\xef\xbf\xbd\xef\xbf\xbd\"",
		   "one that was sent incomplete becomes U+FFFD");
}

static void numbers(void)
{
	check_text(number(512), "512.0", "a whole number shows that it is a float");
	check_text(number(0.1), "0.1", "the shortest form that reads back is used");
	check_text(number(1.0 / 3), "0.3333333333333333", "16 digits where 15 do not do");
	check_text(number(102289407543323.8), "102289407543323.8", "a network difficulty");
	check_text(number(0.00048828125), "0.00048828125", "a fraction of a difficulty");
	check_text(number(1e300), "1e+300", "an exponent is a float already");
	check_text(number(-0.5), "-0.5", "negative");
	check_text(number(9007199254740994.0), "9007199254740994.0", "beyond 2^53");
	check_text(number(NAN), "full", "no NaN");
	check_text(number(INFINITY), "full", "no infinity");
	check_text(integer(INT64_MIN), "-9223372036854775808", "the lowest integer");
	check_text(integer(INT64_MAX), "9223372036854775807", "the highest integer");
	check_text(integer(0), "0", "zero");
}

static void round_trip(void)
{
	uint64_t state = 88172645463325252u, bits;
	long wrong = 0, i;
	double value;

	for (i = 0; i < 200000; i++) {
		state ^= state << 13;
		state ^= state >> 7;
		state ^= state << 17;
		bits = state;
		memcpy(&value, &bits, sizeof(value));
		if (i % 2)	/* difficulties rather than anything */
			value = ldexp((double)(bits >> 11), (int)(bits % 90) - 85);
		if (!isfinite(value))
			continue;
		if (strtod(number(value), NULL) != value)
			wrong++;
	}
	check(wrong == 0, "200,000 random doubles read back as they were");
}

static void full(void)
{
	char small[8];
	struct tbg_json json = { small, small + sizeof(small), false };

	tbg_json_string(&json, "too long for it", 15, false);
	check(json.full, "what does not fit is noticed");
	check(json.at <= json.end, "and nothing is written beyond the end");
}

static void other_locale(void)
{
	static const char *const commas[] = { "de_DE.UTF-8", "de_DE.utf8", "fr_FR.UTF-8",
					      "tbg_comma", NULL };
	int i;

	for (i = 0; commas[i]; i++) {
		if (setlocale(LC_ALL, commas[i]) && *localeconv()->decimal_point == ',')
			break;
	}
	if (!commas[i]) {
		printf("ok %d - # SKIP no locale with a decimal comma here (make test makes one"
		       " where localedef is)\n", ++checks);
		return;
	}
	check_text(number(0.25), "0.25", "a locale with a decimal comma changes nothing");
	check(strtod("0,25", NULL) == 0.25, "and is left as it was");
	setlocale(LC_ALL, "C");
}

static void traps(void)
{
	double quiet = NAN, infinite = INFINITY;

	feclearexcept(FE_ALL_EXCEPT);
	check(!tbg_is_finite(quiet) && !tbg_is_finite(infinite) && !tbg_is_positive(quiet) &&
	      !tbg_is_positive(infinite) && !tbg_is_positive(-1) && !tbg_is_positive(0) &&
	      tbg_is_positive(5e-324), "finite and positive are told apart");
	check(!fetestexcept(FE_INVALID | FE_DIVBYZERO), "without raising an exception");
}

int main(void)
{
	if (!tbg_json_setup())
		return 2;
	strings();
	numbers();
	round_trip();
	full();
	other_locale();
	traps();
	return finish();
}
