/*
 * Part of The Bitcoin Game's ckpool fork.
 * Copyright (C) 2026 The Bitcoin Game
 * SPDX-License-Identifier: GPL-3.0-or-later
 */

/* Upstream's loop macros, given to Coccinelle as the loops they are: it reads
 * functions before the preprocessor, and skips one that it cannot parse. */

#define HASH_ITER(hh, head, el, tmp) for (el = head; el; el = tmp)
#define DL_FOREACH(head, el) for (el = head; el; el = el->next)
#define DL_FOREACH2(head, el, next) for (el = head; el; el = el->next)
#define DL_FOREACH_SAFE(head, el, tmp) for (el = head; el; el = tmp)
