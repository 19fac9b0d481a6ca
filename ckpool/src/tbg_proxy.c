/*
 * Part of The Bitcoin Game's ckpool fork.
 * Copyright (C) 2026 The Bitcoin Game
 * SPDX-License-Identifier: GPL-3.0-or-later
 */

#include "tbg_proxy.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <syslog.h>

#define SIGNATURE "\r\n\r\n\0\r\nQUIT\n"	/* of version 2 */
#define FIXED 16				/* bytes in front of the addresses, in version 2 */
#define BODY_MAX 4096
#define SEPARATORS ", \t"

/* START is zero. Of the states behind it, MINER and REFUSED stay. */
enum { START, LINE, BINARY, MINER, REFUSED };

/* An IPv4 address is kept as the IPv6 address that maps it. */
struct address {
	unsigned char bytes[16];
};

static const unsigned char mapped[12] = { [10] = 0xff, [11] = 0xff };

static void map_ipv4(struct address *to, const unsigned char bytes[4])
{
	memcpy(to->bytes, mapped, 12);
	memcpy(to->bytes + 12, bytes, 4);
}

/* Returns how many bits lie in front of the address proper: 96, 0, or -1 for no address. */
static int read_address(struct address *to, const char *text)
{
	unsigned char ipv4[4];

	if (inet_pton(AF_INET, text, ipv4) == 1) {
		map_ipv4(to, ipv4);
		return 96;
	}
	return inet_pton(AF_INET6, text, to->bytes) == 1 ? 0 : -1;
}

static void write_address(const struct address *from, char *text, size_t size)
{
	char whole[INET6_ADDRSTRLEN];

	if (!memcmp(from->bytes, mapped, 12))
		inet_ntop(AF_INET, from->bytes + 12, whole, sizeof(whole));
	else
		inet_ntop(AF_INET6, from->bytes, whole, sizeof(whole));
	/* Another thread may copy it meanwhile, up to a NUL: one is always there. */
	if (strlen(whole) < size)
		strcpy(text, whole);
}

static bool is_within(const struct address *one, const struct address *network, long bits)
{
	size_t whole = (size_t)bits / 8;
	unsigned char mask = (unsigned char)(0xff00 >> bits % 8);

	return !memcmp(one->bytes, network->bytes, whole) &&
	       (!mask || !((one->bytes[whole] ^ network->bytes[whole]) & mask));
}

/* Reads `address` or `address/bits`; returns the bits, of 128, or -1 for neither. */
static long read_network(struct address *to, const char *text, size_t length)
{
	char copy[INET6_ADDRSTRLEN + 4], *slash, *end = "";
	long bits = 128;
	int before;

	if (length >= sizeof(copy))
		return -1;
	memcpy(copy, text, length);
	copy[length] = '\0';
	slash = strchr(copy, '/');
	if (slash)
		*slash = '\0';
	before = read_address(to, copy);
	if (slash) {
		bits = strtol(slash + 1, &end, 10);
		if (strchr("+- ", slash[1]) || bits < 0 || bits > 128 - before)
			return -1;
		bits += before;
	}
	return before < 0 || *end ? -1 : bits;
}

/* Whether TBG_PROXIES names that address. What in it is no network is logged, once. */
static bool is_named(const char *address, tbg_log_fn log)
{
	static atomic_flag said = ATOMIC_FLAG_INIT;
	const char *at = getenv("TBG_PROXIES");
	struct address peer, network;
	bool named = false, wrong = false;
	size_t length;

	if (!at || read_address(&peer, address) < 0)
		return false;
	for (at += strspn(at, SEPARATORS); *at; at += strspn(at, SEPARATORS)) {
		long bits;

		length = strcspn(at, SEPARATORS);
		bits = read_network(&network, at, length);
		wrong |= bits < 0;
		named |= bits >= 0 && is_within(&peer, &network, bits);
		at += length;
	}
	if (wrong && !atomic_flag_test_and_set(&said))
		log(LOG_WARNING, "tbg: TBG_PROXIES '%s': what is neither an address nor a network there is"
				 " left out", getenv("TBG_PROXIES"));
	return named;
}

/* The source of a whole line of version 1: 1 = read, 0 = the proxy's own, -1 = no header.
 * PROXY TCP4|TCP6 source destination port port */
static int read_line(const struct tbg_proxied *of, struct address *miner)
{
	char line[TBG_PROXY_LINE + 1], *words[7], *rest = line;
	int i;

	memcpy(line, of->head, of->have);
	line[of->have] = '\0';
	if (strlen(line) != of->have)
		return -1;
	line[strcspn(line, "\r\n")] = '\0';
	for (i = 0; i < 7; i++)
		words[i] = strsep(&rest, " ");
	if (strcmp(words[0], "PROXY") != 0 || !words[1])
		return -1;
	if (!strcmp(words[1], "UNKNOWN"))
		return 0;
	if ((strcmp(words[1], "TCP4") != 0 && strcmp(words[1], "TCP6") != 0) || !words[5] || words[6])
		return -1;
	return read_address(miner, words[2]) < 0 ? -1 : 1;
}

/* The same of a header of version 2, whose addresses are in `head`. */
static int read_binary(const struct tbg_proxied *of, struct address *miner)
{
	bool ours = of->head[12] == 0x20;
	int family = of->head[13] >> 4, room = of->have - FIXED;

	if (ours || (family != 1 && family != 2))
		return 0;
	if (room < (family == 1 ? 12 : 36))
		return -1;
	if (family == 1)
		map_ipv4(miner, of->head + FIXED);
	else
		memcpy(miner->bytes, of->head + FIXED, 16);
	return 1;
}

/* Takes up to `want` bytes into the head. False when there are none now; the caller that reads
 * next meets the end of the connection, or its error. */
static bool take(struct tbg_proxied *of, int fd, size_t want, bool *over)
{
	ssize_t got = recv(fd, of->head + of->have, want, MSG_DONTWAIT);

	*over = !got || (got < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR);
	if (got <= 0)
		return false;
	of->have = (unsigned char)(of->have + got);
	return true;
}

/* Both return 1 when the header is complete, 0 while it is not, -1 when it is none. */

static int take_line(struct tbg_proxied *of, int fd, bool *over)
{
	while (of->have < TBG_PROXY_LINE) {
		if (!take(of, fd, 1, over))
			return 0;
		if (of->head[of->have - 1] == '\n')
			return 1;
	}
	return -1;
}

static int take_binary(struct tbg_proxied *of, int fd, bool *over)
{
	unsigned char beyond[256];
	const size_t most = FIXED + 36;
	ssize_t got;

	while (of->have < FIXED) {
		if (!take(of, fd, FIXED - of->have, over))
			return 0;
		if (of->have < FIXED)
			continue;
		of->rest = (unsigned short)(of->head[14] << 8 | of->head[15]);
		if (memcmp(of->head, SIGNATURE, 12) != 0 ||
		    (of->head[12] != 0x20 && of->head[12] != 0x21) || of->rest > BODY_MAX)
			return -1;
	}
	while (of->rest && of->have < most) {
		unsigned char had = of->have;

		if (!take(of, fd, of->rest < most - had ? of->rest : most - had, over))
			return 0;
		of->rest = (unsigned short)(of->rest - (of->have - had));
	}
	/* Addresses of other families, and extensions. */
	while (of->rest) {
		got = recv(fd, beyond, of->rest < sizeof(beyond) ? of->rest : sizeof(beyond),
			   MSG_DONTWAIT);
		if (got <= 0) {
			*over = !got || (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR);
			return 0;
		}
		of->rest = (unsigned short)(of->rest - got);
	}
	return 1;
}

/* Looks at the first byte, and leaves it. A request begins with a brace. */
static bool is_begun(struct tbg_proxied *of, int fd, bool *over)
{
	char first;
	ssize_t got = recv(fd, &first, 1, MSG_PEEK | MSG_DONTWAIT);

	*over = !got || (got < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR);
	if (got == 1)
		of->state = first == 'P' ? LINE : first == '\r' ? BINARY : MINER;
	return got == 1;
}

bool tbg_proxied(struct tbg_proxied *of, int fd, char *address, size_t size, tbg_log_fn log)
{
	struct address miner;
	bool over = false;
	int whole, found;

	if (of->state == START && !is_named(address, log))
		of->state = MINER;
	if (of->state == START && !is_begun(of, fd, &over))
		return over;
	if (of->state == MINER || of->state == REFUSED)
		return of->state == MINER;
	whole = of->state == LINE ? take_line(of, fd, &over) : take_binary(of, fd, &over);
	if (!whole)
		return over;
	found = whole < 0 ? -1 : of->state == LINE ? read_line(of, &miner) : read_binary(of, &miner);
	if (found < 0) {
		log(LOG_NOTICE, "tbg: the proxy %s sent no header of the PROXY protocol: closed", address);
		of->state = REFUSED;
		shutdown(fd, SHUT_RDWR);
		return false;
	}
	if (found)
		write_address(&miner, address, size);
	of->state = MINER;
	return true;
}
