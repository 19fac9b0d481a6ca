/*
 * Part of The Bitcoin Game's ckpool fork.
 * Copyright (C) 2026 The Bitcoin Game
 * SPDX-License-Identifier: GPL-3.0-or-later
 */

/* ISO 8601 weeks in UTC, by arithmetic alone: no locks, no time zone files. */

#ifndef TBG_WEEK_H
#define TBG_WEEK_H

#include <stdint.h>

/* The number of the ISO week (Monday 00:00 UTC to the next) that holds
 * `seconds` after the Unix epoch, counted from the week of 1970-01-01. */
uint32_t tbg_week_of(int64_t seconds);

/* Writes week `week` as "2026-W47" and a NUL into `text`. */
void tbg_week_text(uint32_t week, char text[9]);

#endif
