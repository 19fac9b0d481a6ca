/*
 * Part of The Bitcoin Game's ckpool fork.
 * Copyright (C) 2026 The Bitcoin Game
 * SPDX-License-Identifier: GPL-3.0-or-later
 */

/* Miners behind a proxy, at once and over TCP, through the woven connector to the
 * receiver: each event has the address of its own miner. Some proxies are slow, some are
 * cut off, and some send no header; none of them keeps anybody else waiting. */

#include <arpa/inet.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "check.h"
#include "ckpool.h"
#include "connector.h"
#include "receiver.h"
#include "stratifier.h"
#include "tbg_events.h"

#define MINERS 5
#define ROUNDS 60
#define USER "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080"

ckpool_t ckpool = { .name = "proxied", .regtest = true };

static struct sockaddr_in pool = { .sin_family = AF_INET };
static _Atomic long refused;

void logmsg(int loglevel, const char *fmt, ...)
{
	(void)fmt;
	refused += loglevel == LOG_NOTICE && strstr(fmt, "PROXY") != NULL;
}

static int dial(void)
{
	struct timeval patience = { .tv_sec = 60 };
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	if (connect(fd, (struct sockaddr *)&pool, sizeof(pool)))
		exit(2);
	return fd;
}

/* Up to the end of the line; its length, 0 at the end of the connection. */
static size_t read_line(int fd, char *line, size_t size)
{
	size_t length = 0;

	while (length < size - 1 && read(fd, line + length, 1) == 1 && line[length++] != '\n')
		;
	line[length] = '\0';
	return length;
}

static bool ask(int fd, const char *request)
{
	char answer[512];

	return write(fd, request, strlen(request)) == (ssize_t)strlen(request) &&
	       read_line(fd, answer, sizeof(answer)) && !strstr(answer, "false");
}

/* The header of a round: version 1 or 2, whole, in pieces or a byte at a time. */
static void introduce(int fd, int me, int round)
{
	unsigned char header[64] = "\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xcb\0\x71";
	size_t length = 28, piece = round % 3 == 0 ? 64 : round % 3 == 1 ? 13 : 1, i;

	header[19] = (unsigned char)me;
	if (round % 2)
		length = (size_t)snprintf((char *)header, sizeof(header),
					  "PROXY TCP4 203.0.113.%d 192.0.2.1 4 5\r\n", me);
	for (i = 0; i < length; i += piece) {
		if (write(fd, header + i, length - i < piece ? length - i : piece) < 0)
			exit(2);
		if (piece == 1)
			usleep(50);
	}
}

static void *mine(void *argument)
{
	int me = (int)(intptr_t)argument, round, good = 0;
	char submit[200];

	for (round = 0; round < ROUNDS; round++) {
		int slow = dial(), wrong = dial(), cut = dial(), fd = dial();
		char byte;

		if (write(wrong, "PROXY what?\r\n", 13) < 0 || write(cut, "\r\n\r\n", 4) < 0)
			exit(2);
		close(cut);
		introduce(fd, me, round);
		snprintf(submit, sizeof(submit), "{\"id\":1,\"method\":\"mining.submit\",\"params\""
			 ":[\"" USER ".%d\",\"a%x%04x\"]}\n", me, me, round);
		good += ask(fd, "{\"id\":1,\"method\":\"mining.subscribe\"}\n") &&
			ask(fd, "{\"id\":1,\"method\":\"mining.authorize\",\"params\":[\"" USER ".1\"]}\n") &&
			ask(fd, submit);
		good += read(wrong, &byte, 1) <= 0;
		close(wrong);
		close(slow);
		close(fd);
	}
	return (void *)(intptr_t)good;
}

int main(void)
{
	static char text[TBG_DATAGRAM_MAX + 1];
	struct genwork wb = { .height = 102, .coinbasevalue = 5000000000, .network_diff = 1e9 };
	int serverfd = socket(AF_INET, SOCK_STREAM, 0), fd, i, seen[MINERS + 1] = { 0 };
	pthread_t threads[MINERS], connectors[2];
	socklen_t length = sizeof(pool);
	long good = 0, strange = 0, one;
	struct tbg_counts counts;
	char path[64], *ip;
	void *result;
	cdata_t *cdata;

	snprintf(path, sizeof(path), "/tmp/tbg-proxied-%d.sock", (int)getpid());
	setenv("TBG_EVENTS_SOCKET", path, 1);
	setenv("TBG_EVENTS_STATE", "", 1);
	setenv("TBG_EVENTS_EMIT", "share_submitted", 1);
	setenv("TBG_PROXIES", "127.0.0.1", 1);
	fd = receiver_open(path);
	pool.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (bind(serverfd, (struct sockaddr *)&pool, sizeof(pool)) || listen(serverfd, 64) ||
	    getsockname(serverfd, (struct sockaddr *)&pool, &length))
		return 2;
	stratifier(&ckpool);
	stratum_work(&wb);
	cdata = connector_new(serverfd);
	for (i = 0; i < 2; i++)
		pthread_create(&connectors[i], NULL, connector, cdata);
	for (i = 0; i < MINERS; i++)
		pthread_create(&threads[i], NULL, mine, (void *)(intptr_t)(i + 1));
	for (one = 0; one < MINERS * ROUNDS; one++) {
		for (i = 0; i < 3000 && !receiver_next(fd, text); i++)
			*text = '\0';
		ip = strstr(text, "\"ip\":\"203.0.113.");
		i = ip ? atoi(ip + strlen("\"ip\":\"203.0.113.")) : 0;
		if (i < 1 || i > MINERS || !strstr(text, "\"nonce\"")) {
			printf("# %s\n", text);
			strange++;
		} else {
			seen[i]++;
		}
	}
	for (i = 0; i < MINERS; i++) {
		pthread_join(threads[i], &result);
		good += (long)(intptr_t)result;
		check(seen[i + 1] == ROUNDS, "miner %d has its own address in its %d shares (%d)",
		      i + 1, ROUNDS, seen[i + 1]);
	}
	check(!strange, "and nobody another's");
	check(good == 2L * MINERS * ROUNDS, "every miner is served, every false header hung up (%ld)",
	      good);
	check(refused == (long)MINERS * ROUNDS, "and named in the log (%ld)", (long)refused);
	tbg_events_stop(60000);
	tbg_events_counts(&counts);
	check(counts.sent == counts.emitted && counts.emitted == MINERS * ROUNDS, "nothing is lost");
	close(fd);
	unlink(path);
	i = finish();
	fflush(stdout);
	/* The connectors never end. */
	_exit(i);
}
