/*
 * Part of The Bitcoin Game's ckpool fork.
 * Copyright (C) 2026 The Bitcoin Game
 * SPDX-License-Identifier: GPL-3.0-or-later
 */

/* A bounded ring of records from many producers to one consumer, without
 * locks, after the idea of Dmitry Vyukov's bounded queue: each cell says by its
 * turn whose move it is.
 *
 * With n cells, cell i starts with turn i. A producer that wants position p
 * (cell p mod n) may take it while the turn is p; it leaves p + 1 when the
 * record is complete. The consumer may read position p while the turn is
 * p + 1; it leaves p + n, the next producer's turn.
 *
 * A ring of events with short texts takes less memory: the area of its records
 * ends early (tbg_record.h). */

#ifndef TBG_RING_H
#define TBG_RING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tbg_record.h"

struct tbg_cell {
	_Alignas(64) _Atomic uint64_t turn;
	struct tbg_record record;
};

struct tbg_ring {
	char *cells;
	size_t stride;		/* from one cell to the next, bytes */
	uint64_t mask;
	/* Each on a cache line of its own: producers fight over `head` only. */
	_Alignas(64) _Atomic uint64_t head;	/* next position to produce */
	_Alignas(64) _Atomic uint64_t tail;	/* next position to consume */
};

/* Makes a ring of at least `size` cells whose records hold `area` bytes of text,
 * and touches its memory so that no producer pays for a page fault. False when
 * there is no memory. */
bool tbg_ring_make(struct tbg_ring *ring, size_t size, size_t area);

void tbg_ring_free(struct tbg_ring *ring);

/* Bytes that such a ring takes. */
size_t tbg_ring_bytes(size_t size, size_t area);

/* Takes the next cell for a record, or NULL when no more than `spare` cells are
 * free: those are for what matters more. Lock-free: it retries only when another
 * producer took the cell in the same instant. The caller must soon
 * tbg_ring_commit(): the consumer waits for each cell in turn. */
struct tbg_cell *tbg_ring_take(struct tbg_ring *ring, uint64_t spare);

/* Hands the record over to the consumer. */
void tbg_ring_commit(struct tbg_cell *cell);

/* The next record, or NULL while it is not there yet. Consumer only. */
struct tbg_record *tbg_ring_next(struct tbg_ring *ring);

/* Gives the cell of the next record back to the producers. Consumer only. */
void tbg_ring_give_back(struct tbg_ring *ring);

#endif
