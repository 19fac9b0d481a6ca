/*
 * Part of The Bitcoin Game's ckpool fork.
 * Copyright (C) 2026 The Bitcoin Game
 * SPDX-License-Identifier: GPL-3.0-or-later
 */

#include "tbg_name.h"

#include <string.h>
#include <strings.h>

#define SPACE " \t\n\v\f\r"	/* isspace() asks the locale */
#define PREFIX "bitcoin:"

/* How much of `length` bytes is left without the white space at their end. */
static size_t trimmed(const char *text, size_t length)
{
	while (length && strchr(SPACE, text[length - 1]))
		length--;
	return length;
}

struct tbg_name tbg_name_split(const char *name)
{
	struct tbg_name parts = { .user = "", .worker = "" };
	size_t length;

	if (!name)
		return parts;
	parts.user = name + strspn(name, SPACE);
	if (!strncasecmp(parts.user, PREFIX, strlen(PREFIX))) {
		parts.user += strlen(PREFIX);
		parts.user += strspn(parts.user, SPACE);
	}
	length = strcspn(parts.user, "._/+");
	if (parts.user[length]) {
		parts.worker = parts.user + length + 1;
		parts.worker += strspn(parts.worker, SPACE);
		parts.worker_length = trimmed(parts.worker, strlen(parts.worker));
	}
	parts.user_length = trimmed(parts.user, length);
	return parts;
}
