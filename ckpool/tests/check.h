/*
 * Part of The Bitcoin Game's ckpool fork.
 * Copyright (C) 2026 The Bitcoin Game
 * SPDX-License-Identifier: GPL-3.0-or-later
 */

/* Tests that speak TAP (testanything.org): a line per check, a plan at the
 * end, exit status 1 when one failed; at once if CHECK_STOPS is set. */

#ifndef CHECK_H
#define CHECK_H

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int checks, failures;

__attribute__((format(printf, 2, 3), unused))
static int check(int holds, const char *sentence, ...)
{
	va_list list;

	va_start(list, sentence);
	printf("%sok %d - ", holds ? "" : "not ", ++checks);
	vprintf(sentence, list);
	printf("\n");
	va_end(list);
	failures += !holds;
	if (!holds && getenv("CHECK_STOPS")) {
		fflush(stdout);
		_exit(1);
	}
	return holds;
}

__attribute__((unused))
static int check_text(const char *got, const char *wanted, const char *sentence)
{
	int holds = check(!strcmp(got, wanted), "%s", sentence);

	if (!holds)
		printf("#    got %s\n# wanted %s\n", got, wanted);
	return holds;
}

static int finish(void)
{
	printf("1..%d\n# %d passed, %d failed\n", checks, checks - failures, failures);
	return failures != 0;
}

#endif
