/*
 * Part of The Bitcoin Game's ckpool fork.
 * Copyright (C) 2026 The Bitcoin Game
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * This program is free software: you can redistribute it and/or modify it
 * under the terms of the GNU General Public License as published by the Free
 * Software Foundation, either version 3 of the License, or (at your option)
 * any later version. It comes without any warranty; see LICENSE for details.
 */

/* SipHash-2-4 (Aumasson and Bernstein, 2012): a hash whose collisions nobody
 * can choose without the key. */

#ifndef TBG_SIPHASH_H
#define TBG_SIPHASH_H

#include <stddef.h>
#include <stdint.h>

uint64_t tbg_siphash(const uint64_t key[2], const void *data, size_t length);

#endif
