/*
 * Part of The Bitcoin Game's ckpool fork.
 * Copyright (C) 2026 The Bitcoin Game
 * SPDX-License-Identifier: GPL-3.0-or-later
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

/* One line of Stratum from a connection, which begins as NULL, and the answer. A NULL
 * line is its end. */
struct stratum_instance;
void stratum_work(struct genwork *wb);
void stratum_line(struct stratum_instance **connection, const char *address, const char *line,
		  char *answer, size_t size);

#endif
