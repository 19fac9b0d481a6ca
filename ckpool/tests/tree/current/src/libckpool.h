/*
 * Part of The Bitcoin Game's ckpool fork.
 * Copyright (C) 2026 The Bitcoin Game
 * SPDX-License-Identifier: GPL-3.0-or-later
 */

/* Of upstream's helpers and of uthash, what the miniature uses: own words, the
 * same names. */

#ifndef LIBCKPOOL_H
#define LIBCKPOOL_H

#include <alloca.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define __maybe_unused __attribute__((__unused__))
#define fallthrough __attribute__((__fallthrough__))
#define unlikely(expr) (expr)
#define likely(expr) (expr)

#define ck_rlock(lock) ((void)(lock))
#define ck_runlock(lock) ((void)(lock))

typedef unsigned char uchar;

typedef struct {
	void *next;
} UT_hash_handle;

#define HASH_ITER(hh, head, el, tmp) \
	for ((el) = (head), (tmp) = (el) ? (el)->hh.next : NULL; (el); \
	     (el) = (tmp), (tmp) = (el) ? (el)->hh.next : NULL)
#define DL_FOREACH(head, el) for ((el) = (head); (el); (el) = (el)->next)

static inline int safecmp(const char *a, const char *b)
{
	return a && b ? strcmp(a, b) : -1;
}

static inline void __bin2hex(char *to, const uchar *from, size_t bytes)
{
	static const char digits[] = "0123456789abcdef";
	size_t i;

	for (i = 0; i < bytes; i++) {
		to[2 * i] = digits[from[i] >> 4];
		to[2 * i + 1] = digits[from[i] & 15];
	}
	to[2 * bytes] = '\0';
}

static inline int hex2bin(uchar *to, const char *from, size_t bytes)
{
	char two[3] = "";
	size_t i;

	for (i = 0; i < bytes; i++) {
		memcpy(two, from + 2 * i, 2);
		to[i] = (uchar)strtoul(two, NULL, 16);
	}
	return (int)bytes;
}

/* All 32 bytes in reverse order. */
static inline void bswap_256(uchar *hash)
{
	uchar byte;
	int i;

	for (i = 0; i < 16; i++) {
		byte = hash[i];
		hash[i] = hash[31 - i];
		hash[31 - i] = byte;
	}
}

#endif
