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
#include "tbg_ring.h"

#define ALL_KINDS ((1u << TBG_KINDS) - 1)
#define RING_DEFAULT 16384
#define RING_LEAST 1024
#define USERS_DEFAULT 393216

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

static void read_instance(struct tbg_settings *settings, const char *name, tbg_log_fn log)
{
	const char *wanted = getenv("TBG_EVENTS_INSTANCE");
	struct timespec now;

	if (!wanted || !*wanted)
		wanted = name && *name ? name : "ckpool";
	if (strlen(wanted) > 100)
		log(LOG_WARNING, "tbg: the instance name '%s' is cut to 100 bytes", wanted);
	clock_gettime(CLOCK_REALTIME, &now);
	settings->started = (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
	snprintf(settings->name, sizeof(settings->name), "%.100s", wanted);
	snprintf(settings->instance, sizeof(settings->instance), "%s/%lld", settings->name,
		 (long long)settings->started);
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

static size_t read_number(const char *name, const char *wanted, long least, long most,
			  long otherwise, tbg_log_fn log)
{
	char *end;
	long number;

	if (!wanted || !*wanted)
		return (size_t)otherwise;
	errno = 0;
	number = strtol(wanted, &end, 10);
	if (errno || *end || number < least || number > most) {
		log(LOG_WARNING, "tbg: %s '%s' is no number from %ld to %ld: %ld is used", name,
		    wanted, least, most, otherwise);
		return (size_t)otherwise;
	}
	return (size_t)number;
}

unsigned long long tbg_memory_limit(const char *folder)
{
	static const char *const names[] = {
		"memory.max",			/* control groups, version 2 */
		"memory/memory.limit_in_bytes",	/* version 1 */
	};
	unsigned long long limit = 0;
	char path[PATH_MAX];
	FILE *file;
	size_t i;

	for (i = 0; i < sizeof(names) / sizeof(names[0]) && !limit; i++) {
		snprintf(path, sizeof(path), "%s/%s", folder, names[i]);
		file = fopen(path, "re");
		if (!file)
			continue;
		if (fscanf(file, "%llu", &limit) != 1)
			limit = 0;	/* "max" */
		fclose(file);
	}
	return limit;
}

size_t tbg_ring_within(size_t wanted, unsigned long long limit, tbg_log_fn log)
{
	size_t ring = wanted;

	while (limit && ring > RING_LEAST &&
	       tbg_ring_bytes(ring, TBG_TEXT_AREA) +
	       tbg_ring_bytes(ring > TBG_RATES ? ring : TBG_RATES, TBG_RATE_AREA) > limit / 4)
		ring = ring / 2 > RING_LEAST ? ring / 2 : RING_LEAST;
	if (ring < wanted)
		log(LOG_WARNING, "tbg: TBG_EVENTS_RING %zu takes more than a quarter of the memory limit of"
				 " %llu MiB: %zu is used", wanted, limit >> 20, ring);
	return ring;
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
	read_instance(settings, name, log);
	read_state(settings->state, directory, log);
	settings->kinds = read_kinds(log);
	settings->ring = read_number("TBG_EVENTS_RING", getenv("TBG_EVENTS_RING"), RING_LEAST, 1048576,
				     RING_DEFAULT, log);
	settings->ring = tbg_ring_within(settings->ring, tbg_memory_limit("/sys/fs/cgroup"), log);
	settings->users = read_number("TBG_EVENTS_USERS", getenv("TBG_EVENTS_USERS"), 1024, 4194304,
				      USERS_DEFAULT, log);
	return true;
}
