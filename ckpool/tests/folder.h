/*
 * Part of The Bitcoin Game's ckpool fork.
 * Copyright (C) 2026 The Bitcoin Game
 * SPDX-License-Identifier: GPL-3.0-or-later
 */

/* A folder for a test's state. It lies in memory, so that this boot's counters lie
 * there, too, and are gone with the test. */

#ifndef FOLDER_H
#define FOLDER_H

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[64], state[80];

/* Makes the folder, and has the module keep its state there. */
__attribute__((unused))
static void folder_make(const char *name)
{
	snprintf(folder, sizeof(folder), "/dev/shm/tbg-%s-%d", name, (int)getpid());
	snprintf(state, sizeof(state), "%s/best", folder);
	if (mkdir(folder, 0700)) {
		perror(folder);
		exit(2);
	}
	setenv("TBG_EVENTS_STATE", state, 1);
}

/* Takes the files away whose names end so ("": all). */
__attribute__((unused))
static void folder_clear(const char *end)
{
	struct dirent *entry;
	char name[400];
	DIR *files = opendir(folder);

	while (files && (entry = readdir(files)) != NULL) {
		size_t length = strlen(entry->d_name), wanted = strlen(end);

		snprintf(name, sizeof(name), "%s/%s", folder, entry->d_name);
		if (length >= wanted && !strcmp(entry->d_name + length - wanted, end))
			unlink(name);
	}
	if (files)
		closedir(files);
}

__attribute__((unused))
static void folder_remove(void)
{
	folder_clear("");
	rmdir(folder);
}

#endif
