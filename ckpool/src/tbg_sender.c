/*
 * Part of The Bitcoin Game's ckpool fork.
 * Copyright (C) 2026 The Bitcoin Game
 * SPDX-License-Identifier: GPL-3.0-or-later
 */

#include "tbg_sender.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "tbg_thread.h"

#define SEND_BUFFER 106496	/* the kernel doubles it: 212,992, its own default */
#define SEND_WAIT_MS 100	/* the longest wait for room without looking up */
#define IDLE_US_MIN 100
#define IDLE_US_MAX 4000
#define RETRY_US_MIN 2000
#define RETRY_US_MAX 200000
#define BEAT_MS 10000
#define BEATS_TO_TELL 4		/* with this many a receiver had the former boots' ends */
#define MINUTE_MS 60000

/* What is due once a second or once a minute. */
static void chores(struct tbg_sender *sender)
{
	uint64_t lost, untracked, left_out, mismatches;
	int64_t now = tbg_now_ms();

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
	left_out = *sender->proofs_left_out;
	if (left_out != sender->told_left_out)
		sender->log(LOG_WARNING, "tbg: %llu bests and blocks went without their proof of work,"
					 " as too many of them wait to be sent",
			    (unsigned long long)(left_out - sender->told_left_out));
	sender->told_left_out = left_out;
	mismatches = *sender->mismatches;
	if (mismatches != sender->told_mismatches)
		sender->log(LOG_WARNING, "tbg: ckpool's text of %llu block hashes is not in the order that"
					 " is known: the events have the shares' own hash",
			    (unsigned long long)(mismatches - sender->told_mismatches));
	sender->told_mismatches = mismatches;
	if (now < sender->next_minute)
		return;
	sender->next_minute = now + MINUTE_MS;
	untracked = sender->best->untracked;
	if (untracked != sender->told_untracked)
		sender->log(LOG_WARNING, "tbg: %llu accepted shares in the last minute (%llu in all) were of"
					 " users without a place in the table of best difficulties:"
					 " raise TBG_EVENTS_USERS, which is %zu",
			    (unsigned long long)(untracked - sender->told_untracked),
			    (unsigned long long)untracked, sender->settings->users);
	sender->told_untracked = untracked;
}

static bool time_is_up(struct tbg_sender *sender)
{
	return sender->stopping && tbg_now_ms() >= sender->stop_by;
}

static void hang_up(struct tbg_sender *sender)
{
	close(sender->fd);
	sender->fd = -1;
	/* A sender that connects and cannot send must not try without a pause. */
	sender->pause = sender->pause * 2 > RETRY_US_MAX ? RETRY_US_MAX : sender->pause * 2;
	tbg_rest(sender->pause);
	/* Everything that may have been on its way or in its memory goes again. */
	sender->next = sender->made > TBG_KEPT ? sender->made - TBG_KEPT : 0;
}

/* After send() failed: whether the receiver is there and just has no room. */
static bool has_no_room(struct tbg_sender *sender)
{
	if (errno == EAGAIN || errno == EINTR)
		return true;
	if (errno == ENOBUFS || errno == ENOMEM) {
		tbg_rest(1000);
		return true;
	}
	if (errno != ECONNREFUSED && errno != ENOTCONN && errno != EPIPE && errno != ECONNRESET &&
	    errno != EMSGSIZE && errno != sender->told_errno) {
		sender->told_errno = errno;
		sender->log(LOG_WARNING, "tbg: cannot send to %s: %s; it is tried again",
			    sender->settings->socket.sun_path, strerror(errno));
	}
	return false;
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
	sender->next_beat = 0;
	sender->beats = 0;
	if (sender->told_gone)
		sender->log(LOG_NOTICE, "tbg: the receiver at %s is there",
			    sender->settings->socket.sun_path);
	sender->told_gone = false;
	return true;
}

/* One try to connect, unless it is too soon for that. */
static bool try_to_connect(struct tbg_sender *sender)
{
	int64_t now = tbg_now_ms();

	if (sender->fd >= 0)
		return true;
	if (now < sender->next_dial)
		return false;
	if (dial(sender))
		return true;
	sender->next_dial = now + RETRY_US_MAX / 1000;
	if (!sender->told_gone)
		sender->log(LOG_WARNING, "tbg: no receiver at %s (%s); events wait for it",
			    sender->settings->socket.sun_path, strerror(errno));
	sender->told_gone = true;
	return false;
}

/* Waits for a receiver. False if it was time to stop first. */
static bool connected(struct tbg_sender *sender)
{
	int64_t pause = RETRY_US_MIN;

	while (!try_to_connect(sender)) {
		if (time_is_up(sender))
			return false;
		tbg_rest(pause);
		chores(sender);
		pause = pause * 2 > RETRY_US_MAX ? RETRY_US_MAX : pause * 2;
		sender->next_dial = 0;
	}
	return true;
}

static uint64_t waiting(const struct tbg_ring *ring)
{
	return ring->head - ring->tail;
}

static bool is_empty(const struct tbg_sender *sender)
{
	return !waiting(sender->rare) && !waiting(sender->ring) && !waiting(sender->rates);
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

/* The ring whose turn it is, or NULL while nothing is ready. A share's block and bests
 * are taken a cell for before it, so a reader that sees the share finds theirs, too: the rare
 * ring is looked at last and served first, and waited for while one is being written. */
static struct tbg_ring *ready(struct tbg_sender *sender)
{
	struct tbg_ring *other = NULL;

	if (tbg_ring_next(sender->ring))
		other = sender->ring;
	else if (tbg_ring_next(sender->rates))
		other = sender->rates;
	if (waiting(sender->rare))
		return tbg_ring_next(sender->rare) ? sender->rare : NULL;
	return other;
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
		if (record->kind == TBG_VOID) {
			tbg_ring_give_back(ring);
			continue;
		}
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
		if (has_no_room(sender)) {
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
	sender->pause = RETRY_US_MIN;
	sender->told_errno = 0;
	if (sender->next == sender->furthest) {
		sender->boots->page->sent++;
		sender->log(LOG_DEBUG, "tbg: event %s", datagram->text);
	} else {
		sender->resent++;
	}
	pass(sender);
}

/* --- engine_status -------------------------------------------------------------------- */

static bool say(struct tbg_sender *sender, const char *instance, uint64_t last_seq, int64_t unsent,
		enum tbg_boot_state state)
{
	struct tbg_status status = { .instance = instance, .state = tbg_boot_states[state],
				     .last_seq = last_seq, .unsent = unsent };
	char text[TBG_DATAGRAM_MAX];
	struct timespec now;
	size_t length;

	clock_gettime(CLOCK_REALTIME, &now);
	status.timestamp = (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
	length = tbg_status_write(&status, sender->settings->source, text, sizeof(text));
	if (send(sender->fd, text, length, MSG_NOSIGNAL) == (ssize_t)length)
		return true;
	if (!has_no_room(sender))
		hang_up(sender);
	return false;
}

static bool say_former(struct tbg_sender *sender)
{
	struct tbg_boots *boots = sender->boots;
	int i;

	for (i = 0; i < TBG_BOOTS; i++) {
		const struct tbg_boot *boot = &boots->places[i];

		if (i == boots->own || !boot->state || boots->told[i])
			continue;
		if (!say(sender, boot->instance, boot->emitted,
			 boot->state == TBG_BOOT_CRASHED ? -1 : (int64_t)(boot->emitted - boot->sent),
			 (enum tbg_boot_state)boot->state))
			return false;
		if (sender->beats >= BEATS_TO_TELL - 1)
			boots->told[i] = true;
	}
	return true;
}

/* Says how far this boot is, when it is time for that and nothing else is half
 * said. All numbers up to the one said were sent before, or are lost. */
static void beat(struct tbg_sender *sender)
{
	if (sender->fd < 0 || sender->next < sender->made || tbg_now_ms() < sender->next_beat)
		return;
	sender->dropped = *sender->lost_full;
	if (!say_former(sender) ||
	    !say(sender, sender->settings->instance, sender->numbered + sender->dropped,
		 (int64_t)(sender->numbered + sender->dropped - sender->boots->page->sent),
		 TBG_BOOT_RUNNING))
		return;
	sender->beats++;
	sender->next_beat = tbg_now_ms() + BEAT_MS;
}

/* The last datagram: no event is taken any more, and every number is given. False if a
 * receiver is there that did not take it, or died since the last event: what it had then
 * goes to the next one. */
static bool say_end(struct tbg_sender *sender)
{
	uint64_t emitted = sender->boots->page->emitted, sent = sender->boots->page->sent;

	return sender->fd < 0 ||
	       (say_former(sender) && say(sender, sender->settings->instance, emitted,
					  (int64_t)(emitted - sent), TBG_BOOT_ENDED));
}

/* --- The thread ----------------------------------------------------------------------- */

/* Nothing to send. */
static void idle(struct tbg_sender *sender, int64_t *pause)
{
	try_to_connect(sender);
	chores(sender);
	tbg_rest(*pause);
	*pause = *pause * 2 > IDLE_US_MAX ? IDLE_US_MAX : *pause * 2;
}

/* Sends until it is time to stop and nothing waits, which it says, or the time to stop is up:
 * false. */
static bool work(struct tbg_sender *sender)
{
	int64_t pause = IDLE_US_MIN;

	while (!time_is_up(sender)) {
		beat(sender);
		if (sender->next < sender->made || make(sender)) {
			pause = IDLE_US_MIN;
			if (connected(sender))
				deliver(sender);
			chores(sender);
		} else if (sender->stopping && is_empty(sender)) {
			if (!*sender->over || say_end(sender))
				return true;
		} else {
			idle(sender, &pause);
		}
	}
	return false;
}

static void *run(void *argument)
{
	struct tbg_sender *sender = argument;

	tbg_thread_begins("tbg_sender");
	work(sender);
	/* Events were taken as long as there was time; what threads were still writing
	 * then comes now. */
	*sender->over = true;
	if (!work(sender))
		say_end(sender);
	if (sender->fd >= 0)
		close(sender->fd);
	return NULL;
}

bool tbg_sender_start(struct tbg_sender *sender)
{
	sender->fd = -1;
	sender->pause = RETRY_US_MIN;
	sender->next_chores = tbg_now_ms() + 1000;
	sender->next_minute = tbg_now_ms() + MINUTE_MS;
	return tbg_thread_start(&sender->thread, run, sender);
}

void tbg_sender_stop(struct tbg_sender *sender, int timeout_ms)
{
	sender->stop_by = tbg_now_ms() + timeout_ms;
	sender->stopping = true;
	pthread_join(sender->thread, NULL);
}
