/*
 * Part of The Bitcoin Game's ckpool fork.
 * Copyright (C) 2026 The Bitcoin Game
 * SPDX-License-Identifier: GPL-3.0-or-later
 */

#include "tbg_week.h"

#include <stdbool.h>

uint32_t tbg_week_of(int64_t seconds)
{
	/* 1970-01-01 was a Thursday: its week began three days before. */
	return seconds < 0 ? 0 : (uint32_t)((seconds / 86400 + 3) / 7);
}

static bool is_leap(uint32_t year)
{
	return (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
}

void tbg_week_text(uint32_t week, char text[9])
{
	/* An ISO week belongs to the year of its Thursday, and its number is
	 * how many Thursdays of that year lie up to and including it. */
	uint32_t day = week * 7, year = 1970, number;

	while (day >= (is_leap(year) ? 366u : 365u) && year < 9999) {
		day -= is_leap(year) ? 366u : 365u;
		year++;
	}
	number = day / 7 + 1;
	text[0] = (char)('0' + year / 1000);
	text[1] = (char)('0' + year / 100 % 10);
	text[2] = (char)('0' + year / 10 % 10);
	text[3] = (char)('0' + year % 10);
	text[4] = '-';
	text[5] = 'W';
	text[6] = (char)('0' + number / 10 % 10);
	text[7] = (char)('0' + number % 10);
	text[8] = '\0';
}
