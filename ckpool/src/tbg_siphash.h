/*
 * Part of The Bitcoin Game's ckpool fork.
 * Copyright (C) 2026 The Bitcoin Game
 * SPDX-License-Identifier: GPL-3.0-or-later
 */

/* SipHash-2-4 (Aumasson and Bernstein, 2012): a hash whose collisions
 * cannot be chosen without the key. */

#ifndef TBG_SIPHASH_H
#define TBG_SIPHASH_H

#include <stddef.h>
#include <stdint.h>

uint64_t tbg_siphash(const uint64_t key[2], const void *data, size_t length);

#endif
