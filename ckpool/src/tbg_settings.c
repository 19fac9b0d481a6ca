/*
 * Part of The Bitcoin Game's ckpool fork.
 * Copyright (C) 2026 The Bitcoin Game
 * SPDX-License-Identifier: GPL-3.0-or-later
 */

#include "tbg_settings.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <syslog.h>
#include <time.h>

#include "tbg_record.h"

#define ALL_KINDS ((1u << TBG_KINDS) - 1)
#define RING_DEFAULT 16384

static bool read_socket(struct sockaddr_un *address, tbg_log_fn log)
{
	const char *path = getenv("TBG_EVENTS_SOCKET");

	if (!path)
		path = "/tmp/ckpool/events.sock";
	if (!*path) {
		log(LOG_WARNING, "tbg: TBG_EVENTS_SOCKET is empty: no events are sent");
		return false;
	}
	if (strlen(path) >= sizeof(address->sun_path)) {
		log(LOG_WARNING,
		    "tbg: TBG_EVENTS_SOCKET is %zu bytes long and a socket path has room for %zu:"
		    " no events are sent; choose a shorter path (%s)",
		    strlen(path), sizeof(address->sun_path) - 1, path);
		return false;
	}
	memset(address, 0, sizeof(*address));
	address->sun_family = AF_UNIX;
	memcpy(address->sun_path, path, strlen(path));
	return true;
}

static void read_source(char source[17], tbg_log_fn log)
{
	const char *wanted = getenv("TBG_EVENTS_SOURCE");

	strcpy(source, "hosted");
	if (!wanted || !*wanted)
		return;
	if (strlen(wanted) > 16)
		log(LOG_WARNING, "tbg: TBG_EVENTS_SOURCE '%s' is longer than 16 bytes: 'hosted' is used",
		    wanted);
	else
		strcpy(source, wanted);
}

static void read_instance(char instance[128], const char *name, tbg_log_fn log)
{
	const char *wanted = getenv("TBG_EVENTS_INSTANCE");
	struct timespec now;

	if (!wanted || !*wanted)
		wanted = name && *name ? name : "ckpool";
	if (strlen(wanted) > 100)
		log(LOG_WARNING, "tbg: the instance name '%s' is cut to 100 bytes", wanted);
	clock_gettime(CLOCK_REALTIME, &now);
	snprintf(instance, 128, "%.100s/%lld", wanted,
		 (long long)now.tv_sec * 1000000 + now.tv_nsec / 1000);
}

static uint32_t read_kinds(tbg_log_fn log)
{
	const char *wanted = getenv("TBG_EVENTS_EMIT");
	char names[512], *rest = names, *name;
	uint32_t kinds = 0;
	int kind;

	if (!wanted || !*wanted)
		return ALL_KINDS;
	snprintf(names, sizeof(names), "%s", wanted);
	while ((name = strsep(&rest, ", ")) != NULL) {
		if (!*name)
			continue;
		for (kind = 0; kind < TBG_KINDS && strcmp(name, tbg_kind_names[kind]); kind++)
			;
		if (kind == TBG_KINDS) {
			log(LOG_WARNING,
			    "tbg: TBG_EVENTS_EMIT names '%s', which is no event: all are sent",
			    name);
			return ALL_KINDS;
		}
		kinds |= 1u << kind;
	}
	return kinds ? kinds : ALL_KINDS;
}

static size_t read_ring(tbg_log_fn log)
{
	const char *wanted = getenv("TBG_EVENTS_RING");
	char *end;
	long ring;

	if (!wanted || !*wanted)
		return RING_DEFAULT;
	errno = 0;
	ring = strtol(wanted, &end, 10);
	if (errno || *end || ring < 1024 || ring > 1048576) {
		log(LOG_WARNING, "tbg: TBG_EVENTS_RING '%s' is no number from 1024 to 1048576: %d is used",
		    wanted, RING_DEFAULT);
		return RING_DEFAULT;
	}
	return (size_t)ring;
}

static void read_state(char state[PATH_MAX], const char *directory, tbg_log_fn log)
{
	const char *wanted = getenv("TBG_EVENTS_STATE");
	int length;

	if (wanted)
		length = snprintf(state, PATH_MAX, "%s", wanted);
	else if (directory && *directory)
		length = snprintf(state, PATH_MAX, "%s/tbg_best.state", directory);
	else
		length = snprintf(state, PATH_MAX, "%s", "");
	if (length >= PATH_MAX) {
		log(LOG_WARNING, "tbg: the path of tbg_best.state is too long: bests are not kept");
		*state = '\0';
	}
}

bool tbg_settings_read(struct tbg_settings *settings, const char *name, const char *directory,
		       tbg_log_fn log)
{
	if (!read_socket(&settings->socket, log))
		return false;
	read_source(settings->source, log);
	read_instance(settings->instance, name, log);
	read_state(settings->state, directory, log);
	settings->kinds = read_kinds(log);
	settings->ring = read_ring(log);
	return true;
}
