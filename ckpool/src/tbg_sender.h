/*
 * Part of The Bitcoin Game's ckpool fork.
 * Copyright (C) 2026 The Bitcoin Game
 * SPDX-License-Identifier: GPL-3.0-or-later
 */

/* The one thread that owns the socket, and waits for nothing else. It takes records
 * from the rings, each in order, gives each its `seq`, and sends it as one datagram.
 * What is rare has a ring of its own, which is looked at first: no flood of shares
 * delays a block or loses one. Hash rates come by the thousand at once and have
 * another, which is looked at last: no share waits for them or is lost for them.
 *
 * Slow receiver: the kernel holds few datagrams (net.unix.max_dgram_qlen, 10 by
 * default), so the thread waits for room, and the ring fills meanwhile.
 *
 * Receiver gone: it connects again until there is one. What the old
 * receiver had not read is gone with it, and how much that was is unknown. But
 * it is at most what fits the send buffer, so the thread keeps that many
 * datagrams and sends them again: a resent event carries the same `seq`, by
 * which the other side knows it.
 *
 * An engine_status every ten seconds, soon after connecting, and last of all says how
 * far the numbers go: the end of a sequence needs a witness. How former boots ended
 * goes along until a receiver had it for half a minute. */

#ifndef TBG_SENDER_H
#define TBG_SENDER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "tbg_best.h"
#include "tbg_boot.h"
#include "tbg_ring.h"
#include "tbg_settings.h"

/* Datagrams kept after they were sent, for a receiver that takes over from one that
 * died. The send buffer is pinned at 212,992 bytes (as the kernel counts), and a
 * datagram costs at least 768 of them (a 256-byte sk_buff and the smallest block of
 * data): at most 277 can be on their way. The rest is for what the dead one had read
 * and not yet handed on, a few milliseconds of events. */
#define TBG_KEPT 2048

struct tbg_datagram {
	size_t length;
	char text[TBG_DATAGRAM_MAX + 1];	/* ends with a NUL, for the log */
};

struct tbg_sender {
	struct tbg_ring *rare;
	struct tbg_ring *ring;
	struct tbg_ring *rates;
	struct tbg_proofs *proofs;
	const struct tbg_best *best;
	struct tbg_boots *boots;
	const struct tbg_settings *settings;
	tbg_log_fn log;
	_Atomic uint64_t *lost_full, *proofs_left_out, *mismatches;
	_Atomic bool *over;	/* set when no event is taken any more */

	pthread_t thread;
	_Atomic bool stopping;
	_Atomic int64_t stop_by;	/* monotonic milliseconds */

	_Atomic uint64_t resent, lost_unsayable;

	/* The thread's own. */
	int fd;
	uint64_t numbered;	/* records that got a `seq` */
	uint64_t dropped;	/* losses that `seq` already counts */
	uint64_t made;		/* datagrams made of them, the last ones kept */
	uint64_t next;		/* of those, the one to send */
	uint64_t furthest;	/* the first never sent */
	bool told_gone;
	int told_errno;		/* of a send() that failed for an odd reason */
	int64_t pause;		/* before the next try to connect, microseconds */
	int64_t next_dial, next_beat, next_chores, next_minute;
	int beats;		/* since it connected */
	uint64_t told_lost, told_untracked, told_left_out, told_mismatches;
	struct tbg_datagram kept[TBG_KEPT];
};

/* Starts the thread, with all signals blocked and floating-point traps off.
 * False, with errno set, when there can be no thread. */
bool tbg_sender_start(struct tbg_sender *sender);

/* Has it send what waits, for at most `timeout_ms`, and waits for its end. */
void tbg_sender_stop(struct tbg_sender *sender, int timeout_ms);

#endif
