/*
 * Part of The Bitcoin Game's ckpool fork.
 * Copyright (C) 2026 The Bitcoin Game
 * SPDX-License-Identifier: GPL-3.0-or-later
 */

/* Short ways to emit, for tests that care for how many events there are. */

#ifndef EMIT_H
#define EMIT_H

#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>
#include <time.h>

#include "tbg_events.h"

#define USER "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080"

static pthread_mutex_t log_lock = PTHREAD_MUTEX_INITIALIZER;
static char log_lines[65536];

__attribute__((format(printf, 2, 3), unused))
static void keep_log(int level, const char *format, ...)
{
	va_list list;
	size_t length;

	if (level > LOG_NOTICE)
		return;
	pthread_mutex_lock(&log_lock);
	length = strlen(log_lines);
	va_start(list, format);
	vsnprintf(log_lines + length, sizeof(log_lines) - length, format, list);
	va_end(list);
	pthread_mutex_unlock(&log_lock);
}

__attribute__((unused))
static bool logged(const char *what)
{
	bool found;

	pthread_mutex_lock(&log_lock);
	found = strstr(log_lines, what) != NULL;
	pthread_mutex_unlock(&log_lock);
	return found;
}

__attribute__((unused))
static void pause_ms(long ms)
{
	struct timespec pause = { ms / 1000, ms % 1000 * 1000000 };

	nanosleep(&pause, NULL);
}

__attribute__((unused))
static void emit_share(long number)
{
	static _Thread_local struct tbg_session session;
	char job[24];

	snprintf(job, sizeof(job), "%ld", number);
	tbg_share_submitted(&session, &(struct tbg_share){
		.user = USER, .workername = USER ".rig", .diff = 1, .share_diff = 2, .valid = true,
		.job_id = job, .nonce = "7a1c03e2", .nonce2 = "00", .ip = "192.0.2.17" });
}

__attribute__((unused))
static void emit_block(long number)
{
	char words[65];

	snprintf(words, sizeof(words), "%064lx", number + 1);
	tbg_block_found(&(struct tbg_block){
		.user = USER, .workername = USER ".rig", .hash_words = words, .height = 102,
		.nonce = "7a1c03e2", .reward = 5000000000, .share_diff = 9, .network_diff = 9 });
}

__attribute__((unused))
static void emit_connected(const char *user)
{
	tbg_miner_connected(&(struct tbg_connected){
		.user = user, .workername = user, .ip = "192.0.2.17", .protocol = "stratum_v1",
		.client_id = 7, .diff = 1 });
}

#endif
