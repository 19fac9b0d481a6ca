/*
 * Part of The Bitcoin Game's ckpool fork.
 * Copyright (C) 2026 The Bitcoin Game
 * SPDX-License-Identifier: GPL-3.0-or-later
 */

#define _GNU_SOURCE

#include "tbg_sender.h"

#include <errno.h>
#include <fenv.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "tbg_week.h"

#define SEND_BUFFER 106496	/* the kernel doubles it: 212,992, its own default */
#define SEND_WAIT_MS 100	/* the longest wait for room without looking up */
#define IDLE_US_MIN 100
#define IDLE_US_MAX 4000
#define RETRY_US_MIN 2000
#define RETRY_US_MAX 200000
#define SAVE_EVERY_MS 60000

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void rest(int64_t microseconds)
{
	struct timespec pause = { microseconds / 1000000, microseconds % 1000000 * 1000 };

	nanosleep(&pause, NULL);
}

static void save(struct tbg_sender *sender)
{
	const char *path = sender->settings->state;

	if (*path && sender->best->changed &&
	    !tbg_best_save(sender->best, path, tbg_week_of(time(NULL))))
		sender->log(LOG_WARNING, "tbg: cannot save best difficulties to %s: %s", path,
			    strerror(errno));
}

/* What is due once a second or once a minute. */
static void chores(struct tbg_sender *sender)
{
	uint64_t lost, untracked, left_out;
	int64_t now = now_ms();

	if (now < sender->next_chores)
		return;
	sender->next_chores = now + 1000;
	lost = *sender->lost_full + sender->lost_unsayable;
	if (lost != sender->told_lost) {
		sender->log(LOG_WARNING,
			    "tbg: %llu events lost since the last such line; in all %llu found the"
			    " ring full (is the receiver at %s slow or gone?), %llu did not fit"
			    " the contract",
			    (unsigned long long)(lost - sender->told_lost),
			    (unsigned long long)*sender->lost_full,
			    sender->settings->socket.sun_path,
			    (unsigned long long)sender->lost_unsayable);
		sender->told_lost = lost;
	}
	untracked = sender->best->untracked;
	if (untracked && !sender->told_untracked)
		sender->log(LOG_WARNING, "tbg: the table of best difficulties is full:"
					 " bests of further users are not tracked");
	sender->told_untracked = untracked;
	left_out = *sender->proofs_left_out;
	if (left_out != sender->told_left_out)
		sender->log(LOG_WARNING, "tbg: %llu bests and blocks went without their proof of work,"
					 " as too many of them wait to be sent",
			    (unsigned long long)(left_out - sender->told_left_out));
	sender->told_left_out = left_out;
	if (now < sender->next_save)
		return;
	sender->next_save = now + SAVE_EVERY_MS;
	tbg_best_sweep(sender->best, tbg_week_of(time(NULL)));
	save(sender);
}

static bool time_is_up(struct tbg_sender *sender)
{
	return sender->stopping && now_ms() >= sender->stop_by;
}

static void hang_up(struct tbg_sender *sender)
{
	close(sender->fd);
	sender->fd = -1;
	rest(RETRY_US_MIN);
	/* Everything that may have been on its way or in its memory goes again. */
	sender->next = sender->made > TBG_KEPT ? sender->made - TBG_KEPT : 0;
}

static bool dial(struct tbg_sender *sender)
{
	struct timeval wait = { 0, SEND_WAIT_MS * 1000 };
	int size = SEND_BUFFER, error;
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return false;
	if (setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)) ||
	    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait)) ||
	    connect(fd, (const struct sockaddr *)&sender->settings->socket,
		    sizeof(sender->settings->socket))) {
		error = errno;
		close(fd);
		errno = error;
		return false;
	}
	sender->fd = fd;
	return true;
}

/* Waits for a receiver. False if it was time to stop first. */
static bool connected(struct tbg_sender *sender)
{
	int64_t pause = RETRY_US_MIN;

	while (sender->fd < 0) {
		if (dial(sender))
			break;
		if (!sender->told_gone)
			sender->log(LOG_WARNING, "tbg: no receiver at %s (%s); events wait for it",
				    sender->settings->socket.sun_path, strerror(errno));
		sender->told_gone = true;
		if (time_is_up(sender))
			return false;
		rest(pause);
		chores(sender);
		pause = pause * 2 > RETRY_US_MAX ? RETRY_US_MAX : pause * 2;
	}
	if (sender->told_gone)
		sender->log(LOG_NOTICE, "tbg: the receiver at %s is there",
			    sender->settings->socket.sun_path);
	sender->told_gone = false;
	return true;
}

static bool is_empty(const struct tbg_sender *sender)
{
	return sender->ring->head == sender->ring->tail &&
	       sender->rates->head == sender->rates->tail;
}

static void unsayable(struct tbg_sender *sender, const struct tbg_record *record)
{
	sender->lost_unsayable++;
	sender->log(LOG_DEBUG, "tbg: a %s (seq %llu) cannot be said within the contract",
		    tbg_kind_names[record->kind], (unsigned long long)record->seq);
}

static void number(struct tbg_sender *sender, struct tbg_record *record)
{
	/* Threads may see the count of losses out of order, and rates come late;
	 * `seq` must not go back. */
	if (record->dropped > sender->dropped)
		sender->dropped = record->dropped;
	record->seq = ++sender->numbered + sender->dropped;
}

/* The ring whose turn it is, or NULL while nothing waits in either. */
static struct tbg_ring *ready(struct tbg_sender *sender)
{
	if (tbg_ring_next(sender->ring))
		return sender->ring;
	return tbg_ring_next(sender->rates) ? sender->rates : NULL;
}

/* Makes a datagram of the next record that fits the contract; false if there is
 * none. The record's cell is given back at once. A record that does not fit
 * overwrites the oldest kept datagram; the next one is written to the same place
 * before anything is sent. */
static bool make(struct tbg_sender *sender)
{
	struct tbg_datagram *datagram = &sender->kept[sender->made % TBG_KEPT];
	struct tbg_record *record;
	struct tbg_ring *ring;

	while ((ring = ready(sender)) != NULL) {
		record = tbg_ring_next(ring);
		number(sender, record);
		datagram->length = tbg_record_write(record,
						    tbg_proofs_at(sender->proofs, record->proof),
						    sender->settings->source,
						    sender->settings->instance, datagram->text,
						    TBG_DATAGRAM_MAX);
		tbg_proofs_free(sender->proofs, record->proof);
		datagram->text[datagram->length] = '\0';
		if (!datagram->length)
			unsayable(sender, record);
		tbg_ring_give_back(ring);
		if (datagram->length) {
			sender->made++;
			return true;
		}
	}
	return false;
}

/* The datagram at `next` was sent, or never can be. */
static void pass(struct tbg_sender *sender)
{
	if (sender->next++ == sender->furthest)
		sender->furthest = sender->next;
}

/* Sends the datagram at `next`, unless the receiver is gone. */
static void deliver(struct tbg_sender *sender)
{
	const struct tbg_datagram *datagram = &sender->kept[sender->next % TBG_KEPT];

	while (send(sender->fd, datagram->text, datagram->length, MSG_NOSIGNAL) < 0) {
		if (errno == EAGAIN || errno == EINTR || errno == ENOBUFS || errno == ENOMEM) {
			if (errno == ENOBUFS || errno == ENOMEM)
				rest(1000);
			chores(sender);
			if (time_is_up(sender))
				return;
			continue;
		}
		if (errno == EMSGSIZE) {
			sender->lost_unsayable += sender->next == sender->furthest;
			pass(sender);
		} else {
			hang_up(sender);
		}
		return;
	}
	if (sender->next == sender->furthest) {
		sender->sent++;
		sender->log(LOG_DEBUG, "tbg: event %s", datagram->text);
	} else {
		sender->resent++;
	}
	pass(sender);
}

/* Nothing to send. */
static void idle(struct tbg_sender *sender, int64_t *pause)
{
	chores(sender);
	rest(*pause);
	*pause = *pause * 2 > IDLE_US_MAX ? IDLE_US_MAX : *pause * 2;
}

static void *run(void *argument)
{
	struct tbg_sender *sender = argument;
	int64_t pause = IDLE_US_MIN;

	/* ckpool traps them, and a thread inherits that. */
	fedisableexcept(FE_ALL_EXCEPT);
	pthread_setname_np(pthread_self(), "tbg_sender");
	while (!time_is_up(sender)) {
		if (sender->next < sender->made || make(sender)) {
			pause = IDLE_US_MIN;
			if (connected(sender))
				deliver(sender);
			chores(sender);
		} else if (sender->stopping && is_empty(sender)) {
			break;
		} else {
			idle(sender, &pause);
		}
	}
	sender->lost_at_stop = sender->ring->head - sender->ring->tail + sender->rates->head -
			       sender->rates->tail + sender->made - sender->furthest;
	if (sender->fd >= 0)
		close(sender->fd);
	save(sender);
	return NULL;
}

bool tbg_sender_start(struct tbg_sender *sender)
{
	sigset_t all, before;
	int error;

	sender->fd = -1;
	sender->next_chores = now_ms() + 1000;
	sender->next_save = now_ms() + SAVE_EVERY_MS;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	error = pthread_create(&sender->thread, NULL, run, sender);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	errno = error;
	return !error;
}

void tbg_sender_stop(struct tbg_sender *sender, int timeout_ms)
{
	sender->stop_by = now_ms() + timeout_ms;
	sender->stopping = true;
	pthread_join(sender->thread, NULL);
}
