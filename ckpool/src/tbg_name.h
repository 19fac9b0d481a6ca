/*
 * Part of The Bitcoin Game's ckpool fork.
 * Copyright (C) 2026 The Bitcoin Game
 * SPDX-License-Identifier: GPL-3.0-or-later
 */

/* The parts of a Stratum user name. The devnet pool splits alike:
 * tests/events/usernames.json of the repository holds the cases for both. */

#ifndef TBG_NAME_H
#define TBG_NAME_H

#include <stddef.h>

/* Where the parts lie in the name; not terminated by a NUL. */
struct tbg_name {
	const char *user, *worker;
	size_t user_length, worker_length;
};

/* Splits `<address><separator><worker>`: the user is what precedes the first of
 * '.', '_', '/' and '+', the worker what follows it, '' if there is none.
 * White space around either and a `bitcoin:` before the address, in whatever
 * case, belong to neither. NULL is an empty name. */
struct tbg_name tbg_name_split(const char *name);

#endif
