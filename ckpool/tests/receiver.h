/*
 * Part of The Bitcoin Game's ckpool fork.
 * Copyright (C) 2026 The Bitcoin Game
 * SPDX-License-Identifier: GPL-3.0-or-later
 */

/* The other end of the socket, for tests: a Unix datagram socket at a path. */

#ifndef RECEIVER_H
#define RECEIVER_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "tbg_events.h"
#include "tbg_record.h"

/* Binds it, in place of what was there. Exits when it cannot: no test could go
 * on. */
static int receiver_open(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct timeval wait = { 0, 20000 };
	int fd = socket(AF_UNIX, SOCK_DGRAM, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	unlink(path);
	if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) ||
	    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait))) {
		perror(path);
		exit(2);
	}
	return fd;
}

/* True while more may come: `silence` waits of 20 ms without an event are few, or
 * the engine of this process has events that it did not hand over yet. Ends after
 * a minute all the same, so that a loss fails the test. */
__attribute__((unused))
static bool more_to_come(int silence)
{
	struct tbg_counts counts;

	if (silence < 25 || silence >= 3000)
		return silence < 25;
	tbg_events_counts(&counts);
	return counts.sent + counts.lost_full + counts.lost_unsayable + counts.lost_at_stop < counts.emitted;
}

/* The last engine_status that came. */
__attribute__((unused))
static char receiver_status[TBG_DATAGRAM_MAX + 1];

/* Receives one event as text; false when none came within 20 ms. What is no event
 * but an engine_status is put aside. */
__attribute__((unused))
static bool receiver_next(int fd, char text[TBG_DATAGRAM_MAX + 1])
{
	ssize_t length;

	for (;;) {
		length = recv(fd, text, TBG_DATAGRAM_MAX, 0);
		if (length < 0)
			return false;
		text[length] = '\0';
		if (!strstr(text, "\"event\":\"engine_status\""))
			return true;
		memcpy(receiver_status, text, (size_t)length + 1);
	}
}

/* The whole number after `key` in the text, or -1. */
__attribute__((unused))
static long long number_after(const char *text, const char *key)
{
	const char *at = strstr(text, key);

	return at ? atoll(at + strlen(key)) : -1;
}

#endif
