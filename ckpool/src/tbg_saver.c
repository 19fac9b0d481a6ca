/*
 * Part of The Bitcoin Game's ckpool fork.
 * Copyright (C) 2026 The Bitcoin Game
 * SPDX-License-Identifier: GPL-3.0-or-later
 */

#include "tbg_saver.h"

#include <errno.h>
#include <string.h>
#include <syslog.h>
#include <time.h>

#include "tbg_thread.h"
#include "tbg_week.h"

#define BOOT_EVERY_US 250000
#define BESTS_EVERY_MS 60000

static void save_bests(struct tbg_saver *saver)
{
	const char *path = saver->settings->state;

	tbg_best_sweep(saver->best, tbg_week_of(time(NULL)));
	if (*path && saver->best->changed &&
	    !tbg_best_save(saver->best, path, tbg_week_of(time(NULL))))
		saver->log(LOG_WARNING, "tbg: cannot save best difficulties to %s: %s", path,
			   strerror(errno));
}

static void save_boot(struct tbg_saver *saver, enum tbg_boot_state state, bool durably)
{
	/* Said with the bests, once a minute, not four times a second. */
	if (!tbg_boots_save(saver->boots, state, durably) && durably)
		saver->log(LOG_WARNING, "tbg: cannot save how far this boot is to %s.boots: %s",
			   saver->settings->state, strerror(errno));
}

/* Whether it is time to stop; waits for that for a quarter second. */
static bool stops(const struct tbg_saver *saver)
{
	int i;

	for (i = 0; i < 10 && !saver->stopping; i++)
		tbg_rest(BOOT_EVERY_US / 10);
	return saver->stopping;
}

static void *run(void *argument)
{
	struct tbg_saver *saver = argument;
	int64_t next = tbg_now_ms() + BESTS_EVERY_MS;

	tbg_thread_begins("tbg_saver");
	while (!stops(saver)) {
		bool minute = tbg_now_ms() >= next;

		save_boot(saver, TBG_BOOT_RUNNING, minute);
		if (minute) {
			save_bests(saver);
			next = tbg_now_ms() + BESTS_EVERY_MS;
		}
	}
	save_boot(saver, TBG_BOOT_ENDED, true);
	save_bests(saver);
	return NULL;
}

bool tbg_saver_start(struct tbg_saver *saver)
{
	return tbg_thread_start(&saver->thread, run, saver);
}

void tbg_saver_stop(struct tbg_saver *saver)
{
	saver->stopping = true;
	pthread_join(saver->thread, NULL);
}
