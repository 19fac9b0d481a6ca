/*
 * Part of The Bitcoin Game's ckpool fork.
 * Copyright (C) 2026 The Bitcoin Game
 * SPDX-License-Identifier: GPL-3.0-or-later
 */

/* A pool in miniature, written for the tests of the weaving rules: the
 * functions, parameters and locals that the rules go by have upstream's names,
 * and do as little as will make every event happen. */

#ifndef CKPOOL_H
#define CKPOOL_H

#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <time.h>

typedef struct {
	char *name, *logdir, *btcsig;
	bool regtest, btcsolo;
	int64_t mindiff;
	void *sdata;
} ckpool_t;

extern ckpool_t ckpool;

__attribute__((format(printf, 2, 3)))
void logmsg(int loglevel, const char *fmt, ...);

#define LOGINFO(fmt, ...) do { \
	logmsg(LOG_INFO, fmt, ##__VA_ARGS__); \
} while (0)
#define LOGDEBUG(fmt, ...) do { \
	logmsg(LOG_DEBUG, fmt, ##__VA_ARGS__); \
} while (0)
#define LOGWARNING(fmt, ...) do { \
	logmsg(LOG_WARNING, fmt, ##__VA_ARGS__); \
} while (0)
#define LOGNOTICE(fmt, ...) do { \
	logmsg(LOG_NOTICE, fmt, ##__VA_ARGS__); \
} while (0)

enum share_err {
	SE_NO_NONCE = -2, SE_NO_USERNAME, SE_NONE, SE_INVALID_JOBID, SE_STALE, SE_NTIME_INVALID, SE_DUPE,
	SE_HIGH_DIFF, SE_INVALID_VERSION_MASK, SE_NO_WORKBASE
};

static const char *const share_errs[] = {
	"No nonce", "No username", "Valid", "Invalid JobID", "Stale", "Ntime out of range", "Duplicate",
	"Above target", "Invalid version mask", "No workbase"
};

#define SHARE_ERR(x) share_errs[(x) + 2]

#endif
