/*
 * Part of The Bitcoin Game's ckpool fork.
 * Copyright (C) 2026 The Bitcoin Game
 * SPDX-License-Identifier: GPL-3.0-or-later
 */

/* Saving and loading of the best difficulties (declared in tbg_best.h). The
 * file is this machine's own cache, in its byte order; without it, all-time
 * bests come from ckpool's records and the week starts over. */

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tbg_best.h"
#include "tbg_siphash.h"

#define MAGIC 0x3274736562676274u	/* "tbgbest2" */
#define WEEKS_APART 24			/* from there on two weeks may look alike */

struct header {
	uint64_t magic;
	uint64_t key[2];
	uint64_t week;
	uint64_t count;
	uint64_t check;		/* tbg_siphash of the rows, by the key */
};

struct row {
	uint64_t user, alltime;
	struct {
		uint64_t best, shares;
	} weeks[TBG_WEEKS];
};

static bool write_all(int fd, const void *data, size_t length)
{
	const char *at = data;

	while (length) {
		ssize_t written = write(fd, at, length);

		if (written < 0 && errno == EINTR)
			continue;
		if (written <= 0)
			return false;
		at += written;
		length -= (size_t)written;
	}
	return true;
}

static bool read_all(int fd, void *data, size_t length)
{
	char *at = data;

	while (length) {
		ssize_t got = read(fd, at, length);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0) {
			if (!got)
				errno = EBADMSG;
			return false;
		}
		at += got;
		length -= (size_t)got;
	}
	return true;
}

static size_t collect(struct tbg_best *best, struct row *rows)
{
	size_t i, week, count = 0;

	for (i = 0; i <= best->mask; i++) {
		struct tbg_best_entry *entry = &best->entries[i];

		if (!entry->user)
			continue;
		rows[count].user = entry->user;
		rows[count].alltime = entry->alltime;
		for (week = 0; week < TBG_WEEKS; week++) {
			rows[count].weeks[week].best = entry->weeks[week].best;
			rows[count].weeks[week].shares = entry->weeks[week].shares;
		}
		count++;
	}
	return count;
}

bool tbg_best_save(struct tbg_best *best, const char *path, uint32_t week)
{
	struct header header = { .magic = MAGIC, .week = week };
	char beside[PATH_MAX];
	struct row *rows;
	bool saved;
	int fd, error;

	if (snprintf(beside, sizeof(beside), "%s.new", path) >= (int)sizeof(beside)) {
		errno = ENAMETOOLONG;
		return false;
	}
	tbg_best_sweep(best, week);
	rows = calloc(best->mask + 1, sizeof(struct row));
	if (!rows)
		return false;
	/* First, so that what changes from here on is saved the next time. */
	best->changed = false;
	header.count = collect(best, rows);
	memcpy(header.key, best->key, sizeof(header.key));
	header.check = tbg_siphash(header.key, rows, header.count * sizeof(struct row));
	fd = open(beside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	saved = fd >= 0 && write_all(fd, &header, sizeof(header)) &&
		write_all(fd, rows, header.count * sizeof(struct row)) && !fsync(fd);
	error = errno;
	free(rows);
	if (fd >= 0 && close(fd) && saved) {
		error = errno;
		saved = false;
	}
	if (saved && rename(beside, path)) {
		error = errno;
		saved = false;
	}
	if (!saved)
		best->changed = true;
	errno = error;
	return saved;
}

/* Whether the user of that row ever had a share, or is known from before. Versions
 * that made a place at each authorisation left rows without a share in the file. */
static bool is_somebody(const struct row *row)
{
	size_t week;

	for (week = 0; week < TBG_WEEKS; week++) {
		if (row->weeks[week].shares)
			return true;
	}
	return row->alltime > 1;
}

/* Whether it had a share in the week that was saved. */
static bool is_busy(const struct row *row, uint64_t week)
{
	return row->weeks[week % TBG_WEEKS].shares >> 60 == (week / TBG_WEEKS & 15) &&
	       row->weeks[week % TBG_WEEKS].shares;
}

/* A row goes to the first free place from its own on, as in find(). */
static void place(struct tbg_best *best, const struct row *row, bool with_weeks)
{
	size_t i, week;

	for (i = 0; i < TBG_PROBES; i++) {
		struct tbg_best_entry *entry = &best->entries[(row->user + i) & best->mask];

		if (entry->user)
			continue;
		entry->user = row->user;
		entry->alltime = row->alltime;
		for (week = 0; with_weeks && week < TBG_WEEKS; week++) {
			entry->weeks[week].best = row->weeks[week].best;
			entry->weeks[week].shares = row->weeks[week].shares;
		}
		return;
	}
}

bool tbg_best_load(struct tbg_best *best, const char *path, uint32_t week)
{
	struct header header;
	struct row *rows = NULL;
	struct stat stat;
	bool loaded = false;
	uint64_t i;
	int fd, error, busy;

	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	if (fstat(fd, &stat) || !read_all(fd, &header, sizeof(header)))
		goto out;
	errno = EBADMSG;
	if (header.magic != MAGIC || header.count > (uint64_t)stat.st_size / sizeof(struct row) ||
	    (uint64_t)stat.st_size != sizeof(header) + header.count * sizeof(struct row))
		goto out;
	rows = calloc(header.count + 1, sizeof(struct row));
	if (!rows || !read_all(fd, rows, header.count * sizeof(struct row)))
		goto out;
	errno = EBADMSG;
	if (tbg_siphash(header.key, rows, header.count * sizeof(struct row)) != header.check)
		goto out;
	memcpy(best->key, header.key, sizeof(header.key));
	for (busy = 1; busy >= 0; busy--) {
		for (i = 0; i < header.count; i++) {
			if (is_somebody(&rows[i]) && is_busy(&rows[i], header.week) == busy)
				place(best, &rows[i], header.week < (uint64_t)week + WEEKS_APART &&
						      week < header.week + WEEKS_APART);
		}
	}
	tbg_best_sweep(best, week);
	loaded = true;
out:
	error = errno;
	free(rows);
	close(fd);
	errno = error;
	return loaded;
}
