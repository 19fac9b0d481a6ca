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

#ifndef STRATIFIER_H
#define STRATIFIER_H

#include "ckpool.h"

struct genwork {
	int64_t id;
	int height;
	uint64_t coinbasevalue;
	double network_diff;
	char prevhash[68];
	char merklebin[16][32];
	int merkles;
	bool proxy, ipc;
};

void *stratifier(void *arg);

#endif
