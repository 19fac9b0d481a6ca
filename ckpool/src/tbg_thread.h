/*
 * Part of The Bitcoin Game's ckpool fork.
 * Copyright (C) 2026 The Bitcoin Game
 * SPDX-License-Identifier: GPL-3.0-or-later
 */

/* What this module's own threads have in common. */

#ifndef TBG_THREAD_H
#define TBG_THREAD_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

/* Starts a thread with all signals blocked, so that ckpool's own threads take
 * them. False, with errno set, when there can be none. */
bool tbg_thread_start(pthread_t *thread, void *(*run)(void *), void *argument);

/* The thread's first statement: its name, and no floating-point traps, which it
 * inherited. */
void tbg_thread_begins(const char *name);

/* Milliseconds of a clock that nobody sets. */
int64_t tbg_now_ms(void);

void tbg_rest(int64_t microseconds);

#endif
