/*
 * Part of The Bitcoin Game's ckpool fork.
 * Copyright (C) 2026 The Bitcoin Game
 * SPDX-License-Identifier: GPL-3.0-or-later
 */

/* The PROXY protocol, versions 1 and 2: the miner's own address, from a proxy in front
 * of the pool (TLS, a balancer). The specification is haproxy's doc/proxy-protocol.txt.
 *
 *   TBG_PROXIES  addresses and networks (192.0.2.7, 2001:db8::/32) of proxies that
 *                may say who the miner is, separated by commas or blanks (none)
 *
 * A header from any other address is refused by upstream, as it is no JSON. */

#ifndef TBG_PROXY_H
#define TBG_PROXY_H

#include <stdbool.h>
#include <stddef.h>

#include "tbg_events.h"

#define TBG_PROXY_LINE 107	/* bytes of a header of version 1 at most, CR and LF included */

/* What of its header a connection has sent. All zero is a new connection; one
 * thread at a time may use it. */
struct tbg_proxied {
	unsigned char state;
	unsigned char have;		/* bytes in `head` */
	unsigned short rest;		/* bytes of the header that are still to come, in version 2 */
	unsigned char head[TBG_PROXY_LINE];
};

/* Whether what comes next on `fd` is the miner's: call it before each read.
 *
 * `address` is the peer's, as text; once a proxy's header is complete, it is the
 * miner's. It takes the header's own bytes from `fd` and no more, and never waits.
 * False as long as the header is incomplete, and for good where it is none: then
 * both directions are shut down, so that who polls `fd` sees it hung up. */
bool tbg_proxied(struct tbg_proxied *of, int fd, char *address, size_t size, tbg_log_fn log);

#endif
