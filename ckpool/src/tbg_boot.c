/*
 * Part of The Bitcoin Game's ckpool fork.
 * Copyright (C) 2026 The Bitcoin Game
 * SPDX-License-Identifier: GPL-3.0-or-later
 */

#include "tbg_boot.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <syslog.h>
#include <unistd.h>

#include "tbg_siphash.h"

#define MAGIC 0x3165676170676274u	/* "tbgpage1" */

static const uint64_t key[2] = { 0x746f6f62676274, 0x31 };	/* no secret: against damage */

const char *const tbg_boot_states[] = {
	[TBG_BOOT_RUNNING] = "running", [TBG_BOOT_ENDED] = "ended", [TBG_BOOT_CRASHED] = "crashed",
};

static uint64_t check_of(const struct tbg_boot *boot)
{
	return tbg_siphash(key, (const char *)boot + sizeof(boot->check),
			   sizeof(*boot) - sizeof(boot->check));
}

static bool is_whole(const struct tbg_boot *boot)
{
	return boot->state > TBG_BOOT_NONE && boot->state <= TBG_BOOT_CRASHED &&
	       boot->check == check_of(boot) &&
	       memchr(boot->instance, '\0', sizeof(boot->instance)) && boot->sent <= boot->emitted;
}

static bool write_place(const struct tbg_boots *boots, int place)
{
	ssize_t written = pwrite(boots->fd, &boots->places[place], sizeof(struct tbg_boot),
				 place * (off_t)sizeof(struct tbg_boot));

	if (written >= 0 && written != sizeof(struct tbg_boot))
		errno = ENOSPC;
	return written == sizeof(struct tbg_boot);
}

/* --- The page ----------------------------------------------------------------------- */

static bool is_memory(const char *folder)
{
	struct statfs stat;

	return !statfs(folder, &stat) && stat.f_type == TMPFS_MAGIC;
}

/* The page's file, locked; -1 if it cannot be had there. The name holds the
 * engine's and that of its state file: several engines may share a folder. */
static int open_page(const char *folder, const struct tbg_settings *settings)
{
	char path[PATH_MAX], whose[PATH_MAX + TBG_INSTANCE_MAX];
	struct stat stat;
	int length, fd;

	length = snprintf(whose, sizeof(whose), "%s\n%s", settings->name, settings->state);
	length = snprintf(path, sizeof(path), "%s/tbg-%016llx.boot", folder,
			  (unsigned long long)tbg_siphash(key, whose, (size_t)length));
	if (length >= (int)sizeof(path))
		return -1;
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -1;
	/* Anyone may write to /dev/shm: a file that is not ours is left alone. A page
	 * that was cut short says nothing: its counters would read as nought. */
	if (fstat(fd, &stat) || !S_ISREG(stat.st_mode) || stat.st_uid != geteuid() ||
	    flock(fd, LOCK_EX | LOCK_NB) ||
	    (stat.st_size < (off_t)sizeof(struct tbg_page) && ftruncate(fd, 0)) ||
	    posix_fallocate(fd, 0, sizeof(struct tbg_page))) {
		close(fd);
		return -1;
	}
	return fd;
}

static void folder_of(const char *path, char folder[PATH_MAX])
{
	const char *slash = strrchr(path, '/');

	snprintf(folder, PATH_MAX, "%.*s", slash ? (int)(slash - path) : 1, slash ? path : ".");
	if (!*folder)
		strcpy(folder, "/");
}

/* The page of the boot before, or NULL where none can be kept. The lock stays
 * for as long as the process lives. */
static struct tbg_page *map_page(const struct tbg_settings *settings)
{
	char folders[3][PATH_MAX] = { "", "", "/dev/shm" };
	void *page;
	int i, fd;

	folder_of(settings->state, folders[0]);
	folder_of(settings->socket.sun_path, folders[1]);
	for (i = 0; i < 3; i++) {
		if (!is_memory(folders[i]) || (fd = open_page(folders[i], settings)) < 0)
			continue;
		page = mmap(NULL, sizeof(struct tbg_page), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		if (page != MAP_FAILED)
			return page;
		close(fd);
	}
	return NULL;
}

/* --- The book ------------------------------------------------------------------------- */

/* A free place, or that of the boot that began first. */
static int choose_place(const struct tbg_boots *boots, tbg_log_fn log)
{
	int i, oldest = 0;

	for (i = 0; i < TBG_BOOTS; i++) {
		if (!boots->places[i].state)
			return i;
		if (boots->places[i].started < boots->places[oldest].started)
			oldest = i;
	}
	log(LOG_WARNING, "tbg: how %s ended (last number %llu) was never reported and is forgotten:"
			 " too many boots without a receiver",
	    boots->places[oldest].instance, (unsigned long long)boots->places[oldest].emitted);
	return oldest;
}

static void set(struct tbg_boot *boot, const char *instance, int64_t started, uint64_t emitted,
		uint64_t sent, enum tbg_boot_state state)
{
	memset(boot, 0, sizeof(*boot));
	snprintf(boot->instance, sizeof(boot->instance), "%s", instance);
	boot->started = started;
	boot->emitted = emitted;
	boot->sent = sent;
	boot->state = state;
	boot->check = check_of(boot);
}

/* The former boot's page knows more than the file, which is a moment older. */
static void take_over(struct tbg_boots *boots, const struct tbg_page *page, tbg_log_fn log)
{
	int i;

	for (i = 0; i < TBG_BOOTS; i++) {
		if (boots->places[i].state && !strcmp(boots->places[i].instance, page->instance))
			break;
	}
	if (i == TBG_BOOTS)
		i = choose_place(boots, log);
	set(&boots->places[i], page->instance, page->started, page->emitted,
	    page->sent < page->emitted ? page->sent : page->emitted, TBG_BOOT_ENDED);
}

static void read_places(struct tbg_boots *boots, tbg_log_fn log)
{
	int i, damaged = 0;
	ssize_t got = pread(boots->fd, boots->places, sizeof(boots->places), 0);

	if (got < 0)
		log(LOG_WARNING, "tbg: how former boots ended cannot be read: %s", strerror(errno));
	for (i = 0; i < TBG_BOOTS; i++) {
		struct tbg_boot *boot = &boots->places[i];

		if ((ssize_t)((i + 1) * sizeof(*boot)) > got) {
			damaged += (ssize_t)(i * sizeof(*boot)) < got;	/* cut off in it */
			memset(boot, 0, sizeof(*boot));
		}
		if (boot->state && !is_whole(boot)) {
			damaged++;
			memset(boot, 0, sizeof(*boot));
		}
		/* Who runs no more and did not say how it ended was killed, later than
		 * its counters were copied. */
		if (boot->state == TBG_BOOT_RUNNING) {
			boot->state = TBG_BOOT_CRASHED;
			boot->check = check_of(boot);
		}
	}
	if (damaged)
		log(LOG_WARNING, "tbg: how %d former boots ended cannot be read: damaged", damaged);
}

static int open_file(char *state, tbg_log_fn log)
{
	char path[PATH_MAX];
	int fd;

	if (snprintf(path, sizeof(path), "%s.boots", state) >= (int)sizeof(path)) {
		errno = ENAMETOOLONG;
		fd = -1;
	} else {
		fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	}
	if (fd < 0) {
		log(LOG_WARNING, "tbg: cannot keep how this boot ends in %s.boots: %s", state,
		    strerror(errno));
	} else if (flock(fd, LOCK_EX | LOCK_NB) && errno == EWOULDBLOCK) {
		log(LOG_WARNING, "tbg: another engine that runs keeps its state in %s: this one keeps"
				 " none; give each a TBG_EVENTS_STATE of its own", state);
		close(fd);
		fd = -1;
		*state = '\0';
	}
	return fd;
}

bool tbg_boots_open(struct tbg_boots *boots, struct tbg_settings *settings, tbg_log_fn log)
{
	struct tbg_page *page = NULL;
	int i;

	memset(boots, 0, sizeof(*boots));
	boots->fd = boots->own = -1;
	if (*settings->state)
		boots->fd = open_file(settings->state, log);
	if (*settings->state)
		page = map_page(settings);
	if (boots->fd >= 0)
		read_places(boots, log);
	if (page && page->magic == MAGIC && memchr(page->instance, '\0', sizeof(page->instance)))
		take_over(boots, page, log);
	if (!page) {
		if (*settings->state)
			log(LOG_NOTICE, "tbg: no shared memory for this boot's counters: if it is"
					" killed, its last number is known to a quarter second");
		page = mmap(NULL, sizeof(*page), PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (page == MAP_FAILED)
			return false;
	}
	boots->own = choose_place(boots, log);
	set(&boots->places[boots->own], settings->instance, settings->started, 0, 0,
	    TBG_BOOT_RUNNING);
	/* What the page said is in the file before the page is used again. */
	for (i = 0; boots->fd >= 0 && i < TBG_BOOTS; i++) {
		if (!write_place(boots, i)) {
			log(LOG_WARNING, "tbg: cannot write %s.boots: %s", settings->state,
			    strerror(errno));
			break;
		}
	}
	page->magic = 0;
	atomic_thread_fence(memory_order_seq_cst);
	page->started = settings->started;
	snprintf(page->instance, sizeof(page->instance), "%s", settings->instance);
	page->emitted = page->sent = 0;
	atomic_thread_fence(memory_order_seq_cst);
	page->magic = MAGIC;
	boots->page = page;
	return true;
}

bool tbg_boots_save(struct tbg_boots *boots, enum tbg_boot_state state, bool durably)
{
	struct tbg_boot *own = &boots->places[boots->own];
	/* In this order: what is sent was emitted before. */
	uint64_t sent = boots->page->sent, emitted = boots->page->emitted;
	bool good = true;
	int i;

	if (boots->fd < 0)
		return true;
	for (i = 0; i < TBG_BOOTS; i++) {
		if (i != boots->own && boots->places[i].state && boots->told[i]) {
			memset(&boots->places[i], 0, sizeof(boots->places[i]));
			good &= write_place(boots, i);
		}
	}
	if (own->emitted != emitted || own->sent != sent || own->state != state) {
		set(own, boots->page->instance, own->started, emitted, sent, state);
		good &= write_place(boots, boots->own);
	}
	return good && (!durably || !fsync(boots->fd));
}
