/*
 * Part of The Bitcoin Game's ckpool fork.
 * Copyright (C) 2026 The Bitcoin Game
 * SPDX-License-Identifier: GPL-3.0-or-later
 */

/* Fuzzing (libFuzzer): whatever a proxy sends, at once or in pieces, the same comes of
 * it: nothing, or a valid address and the rest of the bytes, whole. */

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tbg_proxy.h"

#define MUST(condition) do { \
	if (!(condition)) { \
		fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
		abort(); \
	} \
} while (0)

static void silent(int level, const char *format, ...)
{
	(void)level;
	(void)format;
}

struct outcome {
	bool through;
	char address[46];
	ssize_t left;
	unsigned char rest[4096];
};

static void play(struct outcome *out, const unsigned char *bytes, size_t size, size_t piece)
{
	struct tbg_proxied one = { 0 };
	size_t at, length;
	int fds[2];

	memset(out, 0, sizeof(*out));
	strcpy(out->address, "127.0.0.1");
	MUST(!socketpair(AF_UNIX, SOCK_STREAM, 0, fds));
	for (at = 0; at < size && !out->through; at += length) {
		length = size - at < piece ? size - at : piece;
		/* Who was hung up cannot write. */
		if (send(fds[1], bytes + at, length, MSG_NOSIGNAL) < 0)
			break;
		out->through = tbg_proxied(&one, fds[0], out->address, sizeof(out->address), silent);
	}
	if (out->through && at < size)
		MUST(send(fds[1], bytes + at, size - at, MSG_NOSIGNAL) == (ssize_t)(size - at));
	if (out->through) {
		out->left = recv(fds[0], out->rest, sizeof(out->rest), MSG_DONTWAIT);
		out->left = out->left < 0 ? 0 : out->left;
		MUST(!memcmp(out->rest, bytes + size - out->left, (size_t)out->left));
	}
	close(fds[0]);
	close(fds[1]);
}

int LLVMFuzzerTestOneInput(const unsigned char *bytes, size_t size);
int LLVMFuzzerTestOneInput(const unsigned char *bytes, size_t size)
{
	static struct outcome whole, pieces;
	unsigned char binary[16];

	if (!size || size > 4000)
		return 0;
	setenv("TBG_PROXIES", "127.0.0.1", 1);
	play(&whole, bytes + 1, size - 1, 4096);
	play(&pieces, bytes + 1, size - 1, 1 + bytes[0] % 40);
	MUST(whole.through == pieces.through && whole.left == pieces.left);
	MUST(!strcmp(whole.address, pieces.address));
	MUST(inet_pton(AF_INET, whole.address, binary) == 1 ||
	     inet_pton(AF_INET6, whole.address, binary) == 1);
	return 0;
}
