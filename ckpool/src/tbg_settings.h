/*
 * Part of The Bitcoin Game's ckpool fork.
 * Copyright (C) 2026 The Bitcoin Game
 * SPDX-License-Identifier: GPL-3.0-or-later
 */

/* What can be set, from the environment:
 *
 *   TBG_EVENTS_SOCKET    the receiver's Unix datagram socket
 *                        (/tmp/ckpool/events.sock; empty: events off)
 *   TBG_EVENTS_SOURCE    `source` of every event, 1 to 16 bytes (hosted)
 *   TBG_EVENTS_INSTANCE  the engine's name in `instance` (ckpool's own -n name)
 *   TBG_EVENTS_EMIT      which events, separated by commas (all)
 *   TBG_EVENTS_RING      how many events may wait, 1024 to 1048576 (16384);
 *                        each takes a KiB; as many hash rates, which take less
 *                        than half of that, and at least 65,536
 *   TBG_EVENTS_STATE     where best difficulties are kept
 *                        (<log directory>/tbg_best.state; empty: nowhere)
 */

#ifndef TBG_SETTINGS_H
#define TBG_SETTINGS_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/un.h>

#include "tbg_events.h"

struct tbg_settings {
	struct sockaddr_un socket;
	char source[17];
	char instance[128];	/* name and boot time */
	char state[PATH_MAX];	/* "" = nowhere */
	uint32_t kinds;		/* a bit per enum tbg_kind */
	size_t ring;
};

/* Reads them. An invalid value is logged, and its default is used. An unusable
 * socket path is logged too, and it returns false: no default would be right. */
bool tbg_settings_read(struct tbg_settings *settings, const char *name, const char *directory,
		       tbg_log_fn log);

#endif
