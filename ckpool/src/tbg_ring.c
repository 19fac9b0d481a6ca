/*
 * Part of The Bitcoin Game's ckpool fork.
 * Copyright (C) 2026 The Bitcoin Game
 * SPDX-License-Identifier: GPL-3.0-or-later
 */

#include "tbg_ring.h"

#include <stdlib.h>
#include <string.h>

static struct tbg_cell *cell_at(const struct tbg_ring *ring, uint64_t position)
{
	return (struct tbg_cell *)(ring->cells + (position & ring->mask) * ring->stride);
}

static size_t cells_of(size_t size)
{
	size_t cells = 2;

	while (cells < size)
		cells *= 2;
	return cells;
}

static size_t stride_of(size_t area)
{
	size_t line = _Alignof(struct tbg_cell);
	size_t bytes = offsetof(struct tbg_cell, record) + offsetof(struct tbg_record, area) + area;

	return (bytes + line - 1) / line * line;
}

size_t tbg_ring_bytes(size_t size, size_t area)
{
	return cells_of(size) * stride_of(area);
}

bool tbg_ring_make(struct tbg_ring *ring, size_t size, size_t area)
{
	size_t cells = cells_of(size), i;

	ring->mask = cells - 1;
	ring->stride = stride_of(area);
	ring->cells = aligned_alloc(_Alignof(struct tbg_cell), cells * ring->stride);
	if (!ring->cells)
		return false;
	memset(ring->cells, 0, cells * ring->stride);
	for (i = 0; i < cells; i++)
		atomic_init(&cell_at(ring, i)->turn, i);
	atomic_init(&ring->head, 0);
	atomic_init(&ring->tail, 0);
	return true;
}

void tbg_ring_free(struct tbg_ring *ring)
{
	free(ring->cells);
	ring->cells = NULL;
}

struct tbg_cell *tbg_ring_take(struct tbg_ring *ring, uint64_t spare)
{
	/* Relaxed is enough for `head`: it only hands out positions. What makes
	 * the cell ours to write is its turn, read with acquire against the
	 * consumer's release in tbg_ring_give_back(), so that the consumer's
	 * reads of the old record come before our writes of the new one. */
	uint64_t position = atomic_load_explicit(&ring->head, memory_order_relaxed);

	for (;;) {
		struct tbg_cell *cell = cell_at(ring, position);
		uint64_t turn = atomic_load_explicit(&cell->turn, memory_order_acquire);

		/* The tail may lag, which only keeps more cells back. */
		if (spare && position + spare > ring->mask +
			     atomic_load_explicit(&ring->tail, memory_order_relaxed))
			return NULL;
		if (turn == position) {
			if (atomic_compare_exchange_weak_explicit(&ring->head, &position,
								  position + 1,
								  memory_order_relaxed,
								  memory_order_relaxed))
				return cell;
		} else if ((int64_t)(turn - position) < 0) {
			return NULL;	/* still the record of a whole round ago */
		} else {
			position = atomic_load_explicit(&ring->head, memory_order_relaxed);
		}
	}
}

void tbg_ring_commit(struct tbg_cell *cell)
{
	/* Only the producer that holds the cell changes its turn now, so a plain
	 * read of it will do. Release: the record before the turn. */
	uint64_t position = atomic_load_explicit(&cell->turn, memory_order_relaxed);

	atomic_store_explicit(&cell->turn, position + 1, memory_order_release);
}

struct tbg_record *tbg_ring_next(struct tbg_ring *ring)
{
	uint64_t position = atomic_load_explicit(&ring->tail, memory_order_relaxed);
	struct tbg_cell *cell = cell_at(ring, position);

	/* Acquire pairs with the release in tbg_ring_commit(). */
	if (atomic_load_explicit(&cell->turn, memory_order_acquire) != position + 1)
		return NULL;
	return &cell->record;
}

void tbg_ring_give_back(struct tbg_ring *ring)
{
	uint64_t position = atomic_load_explicit(&ring->tail, memory_order_relaxed);

	atomic_store_explicit(&cell_at(ring, position)->turn, position + ring->mask + 1,
			      memory_order_release);
	atomic_store_explicit(&ring->tail, position + 1, memory_order_relaxed);
}
