/*
 * Part of The Bitcoin Game's ckpool fork.
 * Copyright (C) 2026 The Bitcoin Game
 * SPDX-License-Identifier: GPL-3.0-or-later
 */

/* What one connection has done. It lies inside ckpool's struct
 * stratum_instance, which is zeroed before each use: all zero is a new
 * session. */

#ifndef TBG_SESSION_H
#define TBG_SESSION_H

#include <stdatomic.h>
#include <stdint.h>

struct tbg_session {
	/* Several threads may process shares of one connection at once. */
	_Atomic uint64_t accepted;
	_Atomic uint64_t rejected;
	_Atomic uint64_t best;	/* bits of a double: best accepted share */
	_Atomic uint64_t known;	/* the same: the user's all-time best when it authorised */
};

#endif
