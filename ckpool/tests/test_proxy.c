/*
 * Part of The Bitcoin Game's ckpool fork.
 * Copyright (C) 2026 The Bitcoin Game
 * SPDX-License-Identifier: GPL-3.0-or-later
 */

/* Headers of the PROXY protocol: who may send one, what it says, and that neither a
 * slow one nor a wrong one costs more than its own connection. */

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <syslog.h>
#include <unistd.h>

#include "check.h"
#include "tbg_proxy.h"

#define V2 "\r\n\r\n\0\r\nQUIT\n"
#define REQUEST "{\"id\":1}\n"
#define SIX "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\7"

static int notices, warnings;

static void count(int level, const char *format, ...)
{
	(void)format;
	notices += level == LOG_NOTICE;
	warnings += level == LOG_WARNING;
}

struct connection {
	struct tbg_proxied proxied;
	char address[46];
	int ours, theirs;
};

static void connect_from(struct connection *one, const char *peer)
{
	int fds[2];

	memset(one, 0, sizeof(*one));
	snprintf(one->address, sizeof(one->address), "%s", peer);
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, fds))
		exit(2);
	one->ours = fds[0];
	one->theirs = fds[1];
}

static void leave(struct connection *one)
{
	close(one->ours);
	close(one->theirs);
}

static bool ask(struct connection *one)
{
	return tbg_proxied(&one->proxied, one->ours, one->address, sizeof(one->address), count);
}

static void say(struct connection *one, const char *bytes, size_t length)
{
	if (write(one->theirs, bytes, length) != (ssize_t)length)
		exit(2);
}

/* What is left to read, which is the miner's. */
static const char *rest(struct connection *one)
{
	static char text[8192];
	ssize_t got = recv(one->ours, text, sizeof(text) - 1, MSG_DONTWAIT);

	text[got > 0 ? got : 0] = '\0';
	return text;
}

/* A header that is right, at once and byte by byte: the address, and what follows. */
static void tells(const char *peer, const char *header, size_t length, const char *wanted)
{
	struct connection one;
	bool early = false;
	size_t i;

	connect_from(&one, peer);
	say(&one, header, length);
	say(&one, REQUEST, strlen(REQUEST));
	check(ask(&one) && ask(&one), "a whole header is taken");
	check_text(one.address, wanted, "and names the miner");
	check_text(rest(&one), REQUEST, "what follows is the miner's");
	leave(&one);
	connect_from(&one, peer);
	for (i = 0; i < length; i++) {
		early |= ask(&one);
		say(&one, header + i, 1);
	}
	check(!early && !strcmp(one.address, peer), "nothing is the miner's before its end");
	check(ask(&one), "and everything behind it");
	check_text(one.address, wanted, "a slow header says the same");
	say(&one, REQUEST, strlen(REQUEST));
	check(ask(&one), "for good");
	check_text(rest(&one), REQUEST, "and takes no byte of the miner's");
	leave(&one);
}

#define TELLS(peer, header, wanted) tells(peer, header, sizeof(header) - 1, wanted)

/* Not a header: the connection is hung up, and no byte of it becomes a request. */
static void refused(const char *bytes, size_t length)
{
	struct connection one;
	int before = notices;
	char byte;

	connect_from(&one, "127.0.0.1");
	say(&one, bytes, length);
	check(!ask(&one) && !ask(&one), "no header: nothing comes of it, however often one asks");
	check(notices == before + 1, "it is said once");
	check_text(one.address, "127.0.0.1", "the address stays");
	while (recv(one.ours, &byte, 1, 0) == 1)
		;
	check(recv(one.theirs, &byte, 1, MSG_DONTWAIT) == 0, "it is hung up");
	leave(&one);
}

#define REFUSED(bytes) refused(bytes, sizeof(bytes) - 1)

static void headers(void)
{
	TELLS("127.0.0.1", "PROXY TCP4 203.0.113.7 192.0.2.1 40000 3333\r\n", "203.0.113.7");
	TELLS("127.0.0.1", "PROXY TCP6 2001:db8::7 2001:db8::1 40000 3333\r\n", "2001:db8::7");
	TELLS("127.0.0.1", "PROXY TCP6 ::ffff:203.0.113.7 ::1 1 2\r\n", "203.0.113.7");
	TELLS("127.0.0.1", "PROXY UNKNOWN\r\n", "127.0.0.1");
	TELLS("127.0.0.1", "PROXY UNKNOWN ff ff 1 2\r\n", "127.0.0.1");
	TELLS("127.0.0.1", V2 "\x21\x11\0\x0c" "\xcb\0\x71\7" "\x7f\0\0\1" "\x9c\x40\r\5",
	      "203.0.113.7");
	TELLS("127.0.0.1", V2 "\x21\x21\0\x24" SIX SIX "\x9c\x40\r\5", "2001:db8::7");
	TELLS("127.0.0.1", V2 "\x21\x11\0\x11" "\xcb\0\x71\7" "\x7f\0\0\1" "\x9c\x40\r\5" "\4\0\2ok",
	      "203.0.113.7");
	TELLS("127.0.0.1", V2 "\x20\x11\0\x0c" "\xcb\0\x71\7" "\x7f\0\0\1" "\x9c\x40\r\5",
	      "127.0.0.1");
	TELLS("127.0.0.1", V2 "\x20\0\0\0", "127.0.0.1");
	TELLS("127.0.0.1", V2 "\x21\0\0\0", "127.0.0.1");
	TELLS("127.0.0.1", V2 "\x21\x31\0\xd8" SIX SIX SIX SIX SIX SIX SIX SIX SIX SIX SIX SIX SIX
	      "12345678", "127.0.0.1");
}

static void longest(void)
{
	static char header[16 + 4096] = V2 "\x21\x11\x10\0" "\xcb\0\x71\7";
	char line[] = "PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"
		      " ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n";

	tells("127.0.0.1", header, sizeof(header), "203.0.113.7");
	tells("127.0.0.1", line, strlen(line), "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
}

static void no_headers(void)
{
	static char longer[16 + 4097] = V2 "\x21\x11\x10\1" "\xcb\0\x71\7";
	char endless[108];

	REFUSED("PROXY\r\n");
	REFUSED("PROXY TCP4 nonsense 1.2.3.4 1 2\r\n" REQUEST);
	REFUSED("PROXY TCP9 1.2.3.4 1.2.3.4 1 2\r\n" REQUEST);
	REFUSED("PROXY TCP4 1.2.3.4\r\n" REQUEST);
	REFUSED("PROXY TCP4 1.2.3.4 1.2.3.4 1 2 3\r\n" REQUEST);
	REFUSED("PROXY TCP4 1.2.3.4\0 1.2.3.4 1 2\r\n" REQUEST);
	REFUSED("PROXY TCP4 1.2.3.4 1.2.3.4 1 2\0more\r\n" REQUEST);
	REFUSED("POST / HTTP/1.1\r\n" REQUEST);
	REFUSED("\r\n\r\n\0\r\nQUIX\n" "\x21\x11\0\x0c" "123412341212" REQUEST);
	REFUSED(V2 "\x31\x11\0\x0c" "123412341212" REQUEST);
	REFUSED(V2 "\x22\x11\0\x0c" "123412341212" REQUEST);
	REFUSED(V2 "\x21\x11\0\x0b" "12341234121" REQUEST);
	REFUSED(V2 "\x21\x21\0\x23" SIX SIX "121" REQUEST);
	refused(longer, sizeof(longer));
	memset(endless, 'x', sizeof(endless));
	endless[0] = 'P';
	refused(endless, sizeof(endless));
}

static void ends_early(void)
{
	struct connection one;

	connect_from(&one, "127.0.0.1");
	check(!ask(&one), "a proxy that is silent is waited for");
	say(&one, "PROXY TCP4 203", 14);
	check(!ask(&one), "and so is one in the middle");
	close(one.theirs);
	check(ask(&one), "its end is upstream's to see");
	check_text(rest(&one), "", "with nothing before it");
	close(one.ours);
	connect_from(&one, "127.0.0.1");
	close(one.theirs);
	check(ask(&one), "and so is one that never began");
	close(one.ours);
	connect_from(&one, "127.0.0.1");
	say(&one, REQUEST, strlen(REQUEST));
	check(ask(&one), "a proxy's own request needs no header");
	check_text(rest(&one), REQUEST, "and is whole");
	leave(&one);
}

/* Whether a peer is taken for a proxy under that setting. */
static bool is_proxy(const char *setting, const char *peer)
{
	struct connection one;
	bool named;

	setenv("TBG_PROXIES", setting, 1);
	connect_from(&one, peer);
	say(&one, "PROXY TCP4 203.0.113.7 192.0.2.1 40000 3333\r\n", 45);
	named = ask(&one) && !strcmp(one.address, "203.0.113.7");
	if (!named)
		named = !check(!strcmp(one.address, peer) && !strncmp(rest(&one), "PROXY", 5),
			       "a stranger's header goes to upstream, which refuses it");
	leave(&one);
	return named;
}

/* Whether that setting names nobody, with one warning: in a process of its own, as there
 * is one for each. */
static bool is_said(const char *setting)
{
	pid_t child = fork();
	int status = 1;

	if (!child) {
		bool named = is_proxy(setting, "10.33.0.2");

		_exit(named || is_proxy(setting, "10.33.0.2") || warnings != 1);
	}
	waitpid(child, &status, 0);
	return !status;
}

static void proxies(void)
{
	static const char *const wrong[] = {
		"10.33.0.2/33", "10.33.0.2/128", "2001:db8::/129", "x", "10.33.0.2/", "10.33.0.2/-1",
		"10.33.0.2/+1", "/8", "10.33.0.2/32x", "10.33.0",
		"2001:db8:2001:db8:2001:db8:2001:db8:2001:db8:2001:db8",
	};
	size_t i;

	check(!is_proxy("", "127.0.0.1"), "nobody is named unasked");
	unsetenv("TBG_PROXIES");
	check(is_proxy("10.33.0.2", "10.33.0.2"), "an address");
	check(!is_proxy("10.33.0.2", "10.33.0.3"), "and no other");
	check(is_proxy("10.0.0.1, 10.33.0.2", "10.33.0.2"), "several, by commas");
	check(is_proxy(" 10.0.0.1 10.33.0.2 ", "10.33.0.2"), "or blanks");
	check(is_proxy("10.33.0.0/16", "10.33.255.255"), "a network");
	check(!is_proxy("10.33.0.0/16", "10.34.0.0"), "to its end");
	check(is_proxy("10.33.0.8/29", "10.33.0.15"), "of any size");
	check(!is_proxy("10.33.0.8/29", "10.33.0.16"), "to the bit");
	check(is_proxy("10.33.0.9/29", "10.33.0.8"), "named by any address in it");
	check(is_proxy("0.0.0.0/0", "198.51.100.1"), "everybody");
	check(!is_proxy("0.0.0.0/0", "2001:db8::1"), "of that family");
	check(is_proxy("::/0", "2001:db8::1"), "everybody");
	check(is_proxy("2001:db8::/32", "2001:db8:ffff::1"), "a network of IPv6");
	check(!is_proxy("2001:db8::/33", "2001:db8:ffff::1"), "to the bit");
	check(is_proxy("10.33.0.2", "::ffff:10.33.0.2"), "on a socket of both families");
	check(!is_proxy("10.33.0.2", "no address"), "who has no address is nobody");
	check(!warnings, "nothing was wrong so far");
	for (i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		check(is_said(wrong[i]), "'%s' names nobody, which is said once", wrong[i]);
	check(is_proxy("x,10.33.0.2/33,127.0.0.1/32", "127.0.0.1"), "what is wrong leaves the rest");
}

int main(void)
{
	setenv("TBG_PROXIES", "127.0.0.0/8", 1);
	headers();
	longest();
	no_headers();
	ends_early();
	proxies();
	return finish();
}
