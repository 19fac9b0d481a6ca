/*
 * Part of The Bitcoin Game's ckpool fork.
 * Copyright (C) 2026 The Bitcoin Game
 * SPDX-License-Identifier: GPL-3.0-or-later
 */

/* How the boots of this engine ended: the witness of the numbers that nobody
 * received. Two things keep it.
 *
 *  - The page holds two counters of this boot in shared memory, which outlives
 *    the process whatever kills it. Mining threads count there, so it must lie
 *    in a tmpfs: a page of a disk's file is written back now and then, and the
 *    next thread that writes to it may wait for that disk.
 *  - The file, beside the best difficulties, has a place for each boot whose
 *    end was not reported yet. The saver's thread copies the counters to it
 *    four times a second. It outlives the machine and the container.
 *
 * So the next boot knows the former's last number exactly where the page is
 * still there or the former ended by itself, and else a lower bound. */

#ifndef TBG_BOOT_H
#define TBG_BOOT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "tbg_settings.h"

#define TBG_BOOTS 64	/* that the file has a place for, this one included */

enum tbg_boot_state { TBG_BOOT_NONE, TBG_BOOT_RUNNING, TBG_BOOT_ENDED, TBG_BOOT_CRASHED };

/* What engine_status calls them. */
extern const char *const tbg_boot_states[];

struct tbg_boot {
	uint64_t check;		/* tbg_siphash of all that follows */
	int64_t started;	/* microseconds since the epoch */
	uint64_t emitted, sent;
	uint64_t state;		/* enum tbg_boot_state */
	char instance[TBG_INSTANCE_MAX];
};

struct tbg_page {
	uint64_t magic;		/* written last */
	int64_t started;
	char instance[TBG_INSTANCE_MAX];
	/* Each on a cache line of its own. */
	_Alignas(64) _Atomic uint64_t emitted;	/* events that got a number, or will */
	_Alignas(64) _Atomic uint64_t sent;	/* given to the socket */
};

struct tbg_boots {
	struct tbg_page *page;	/* never NULL once opened, and never unmapped */
	int fd;			/* of the file; -1 = none */
	int own;		/* this boot's place; -1 = none */
	/* The others' places do not change after tbg_boots_open(). */
	struct tbg_boot places[TBG_BOOTS];
	_Atomic bool told[TBG_BOOTS];	/* reported: its place may be cleared */
};

/* Reads how former boots ended, and begins the book of this one. What cannot be
 * read or made is logged and does without: the counters then live in plain
 * memory. False when there is not even that. Where another engine that runs
 * keeps its state, `settings->state` is emptied: two would overwrite each
 * other's, and one that runs has not ended. */
bool tbg_boots_open(struct tbg_boots *boots, struct tbg_settings *settings, tbg_log_fn log);

/* Writes this boot's counters to the file if they changed, and clears what was
 * reported. `durably` waits for the disk. False, with errno set, on failure. */
bool tbg_boots_save(struct tbg_boots *boots, enum tbg_boot_state state, bool durably);

#endif
