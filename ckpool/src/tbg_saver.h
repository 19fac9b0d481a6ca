/*
 * Part of The Bitcoin Game's ckpool fork.
 * Copyright (C) 2026 The Bitcoin Game
 * SPDX-License-Identifier: GPL-3.0-or-later
 */

/* The one thread that waits for the disk, so that no event does. It sweeps and
 * saves the best difficulties every minute, and this boot's counters every
 * quarter second. */

#ifndef TBG_SAVER_H
#define TBG_SAVER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "tbg_best.h"
#include "tbg_boot.h"
#include "tbg_settings.h"

struct tbg_saver {
	struct tbg_best *best;
	struct tbg_boots *boots;
	const struct tbg_settings *settings;
	tbg_log_fn log;

	pthread_t thread;
	_Atomic bool stopping;
};

/* Starts the thread, with all signals blocked and floating-point traps off.
 * False, with errno set, when there can be no thread. */
bool tbg_saver_start(struct tbg_saver *saver);

/* Saves everything for the last time, however long the disk takes, and ends the
 * thread. */
void tbg_saver_stop(struct tbg_saver *saver);

#endif
