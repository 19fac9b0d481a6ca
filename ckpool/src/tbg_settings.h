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
 *   TBG_EVENTS_RING      how many events may wait, 1024 to 1048576 (16384); as
 *                        many hash rates, and at least 65,536; fewer where that
 *                        is more than a quarter of the memory that the control
 *                        group has
 *   TBG_EVENTS_USERS     users with best difficulties, 1024 to 4194304 (393216)
 *   TBG_EVENTS_STATE     where best difficulties are kept, and beside them, with
 *                        .boots at the end, how former boots ended
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

#define TBG_INSTANCE_MAX 128	/* bytes, the NUL included */
#define TBG_RATES 65536		/* hash rates that may wait, at least */

struct tbg_settings {
	struct sockaddr_un socket;
	char source[17];
	char name[101];		/* the engine's */
	char instance[TBG_INSTANCE_MAX];	/* name and boot time */
	int64_t started;	/* the boot time, microseconds since the epoch */
	char state[PATH_MAX];	/* "" = nowhere */
	uint32_t kinds;		/* a bit per enum tbg_kind */
	size_t ring;
	size_t users;
};

/* Reads them. An invalid value is logged, and its default is used. An unusable
 * socket path is logged too, and it returns false: no default would be right. */
bool tbg_settings_read(struct tbg_settings *settings, const char *name, const char *directory,
		       tbg_log_fn log);

/* The memory limit in a folder of control groups, bytes; 0 if there is none. */
unsigned long long tbg_memory_limit(const char *folder);

/* The largest ring, up to the wanted one, that takes no more than a quarter of that
 * limit (0: none) together with its hash rates; 1,024 events in any case. */
size_t tbg_ring_within(size_t wanted, unsigned long long limit, tbg_log_fn log);

#endif
