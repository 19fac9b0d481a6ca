/*
 * Part of The Bitcoin Game's ckpool fork.
 * Copyright (C) 2026 The Bitcoin Game
 * SPDX-License-Identifier: GPL-3.0-or-later
 */

/* The end of a boot is in the books: engines that stop, that are killed, that lose
 * their shared memory, with and without a receiver. Each engine is a process. */

#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "check.h"
#include "emit.h"
#include "folder.h"
#include "receiver.h"
#include "tbg_boot.h"

static char path[64], boots[96], text[TBG_DATAGRAM_MAX + 1];
static int fd = -1;
/* What a child says that is killed. */
static struct {
	_Atomic long phase, emitted, sent, began;
} *said;

struct status {
	char instance[128], state[16];
	long last_seq, unsent;	/* -1: null */
	long events;		/* that came before it */
};

static struct status statuses[200];
static int count;
static long events;

static void note_status(const char *from)
{
	struct status *status = &statuses[count < 199 ? count++ : 199];

	memset(status, 0, sizeof(*status));
	status->unsent = -1;
	sscanf(strstr(from, "\"instance\":\"") + 12, "%127[^\"]", status->instance);
	sscanf(strstr(from, "\"state\":\"") + 9, "%15[a-z]", status->state);
	status->last_seq = (long)number_after(from, "\"last_seq\":");
	if (!strstr(from, "\"unsent\":null"))
		status->unsent = (long)number_after(from, "\"unsent\":");
	status->events = events;
	check(!strstr(from, "\"seq\":") && strstr(from, "{\"event\":\"engine_status\",\"timestamp\":") == from,
	      "an engine_status has no number");
}

/* The next datagram, if one comes within 20 ms. */
static bool receive_one(void)
{
	ssize_t length = recv(fd, text, TBG_DATAGRAM_MAX, 0);

	if (length < 0)
		return false;
	text[length] = '\0';
	if (strstr(text, "engine_status"))
		note_status(text);
	else
		events++;
	return true;
}

static const struct status *last_of(const char *instance_or_state, bool own)
{
	int i;

	for (i = count - 1; i >= 0; i--) {
		if (own ? !strcmp(statuses[i].state, instance_or_state) :
		    !strcmp(statuses[i].instance, instance_or_state))
			return &statuses[i];
	}
	return NULL;
}

static void begin(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	memset(statuses, 0, sizeof(statuses));
	memset(said, 0, sizeof(*said));
	said->began = now.tv_sec * 1000000L + now.tv_nsec / 1000;
	count = 0;
	events = 0;
}

static void appear(void)
{
	fd = receiver_open(path);
}

static void vanish(void)
{
	if (fd >= 0)
		close(fd);
	fd = -1;
	unlink(path);
}

/* An engine in a process of its own, which `life` says. */
static pid_t engine(void (*life)(void))
{
	pid_t child = fork();

	if (child)
		return child;
	if (fd >= 0)
		close(fd);
	if (!tbg_events_start("eu1", NULL, keep_log))
		_exit(3);
	life();
	_exit(0);
}

static int ended(pid_t child)
{
	int status;

	waitpid(child, &status, 0);
	return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

/* Receives until the engine has ended, and what it left in the socket. */
static int ended_heard(pid_t child)
{
	int status;

	while (waitpid(child, &status, WNOHANG) == 0)
		receive_one();
	while (receive_one())
		;
	return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

static void note_counts(void)
{
	struct tbg_counts counts;

	tbg_events_counts(&counts);
	said->sent = (long)counts.sent;
	said->emitted = (long)counts.emitted;
}

static void emit_some(long number)
{
	long i;

	for (i = 0; i < number; i++)
		emit_share(i);
	note_counts();
}

/* Receives until an engine says that it runs, and so has said how former ones
 * ended. */
static void until_running(void)
{
	int waits;

	for (waits = 0; waits < 3000 && !last_of("running", true);)
		waits += !receive_one();
}

static void until_phase(long phase)
{
	int i;

	for (i = 0; i < 6000 && said->phase < phase; i++)
		pause_ms(10);
}

static void stops_cleanly(void)
{
	emit_some(300);
	tbg_events_stop(20000);
	note_counts();
}

static void dies_at_once(void)
{
	emit_some(3000);
	kill(getpid(), SIGKILL);
}

/* True when the file has the boot that this process is, with all its numbers. */
static bool is_saved(void)
{
	struct tbg_boot place;
	int file = open(boots, O_RDONLY), i;
	bool saved = false;

	for (i = 0; file >= 0 && i < TBG_BOOTS && !saved; i++)
		saved = pread(file, &place, sizeof(place), i * (off_t)sizeof(place)) == sizeof(place) &&
			place.started >= said->began && place.emitted == (uint64_t)said->emitted;
	if (file >= 0)
		close(file);
	return saved;
}

static void dies_later(void)
{
	int waits;

	emit_some(3000);
	for (waits = 0; waits < 6000 && !is_saved(); waits++)
		pause_ms(10);
	note_counts();
	kill(getpid(), SIGKILL);
}

static void stops_unheard(void)
{
	emit_some(3000);
	tbg_events_stop(50);
}

static void lives(void)
{
	emit_some(1);
	said->phase = 1;
	until_phase(2);
	tbg_events_stop(20000);
}

static _Atomic bool mining = true;
static _Atomic long submitted;

static void *mine(void *argument)
{
	(void)argument;
	while (mining) {
		emit_share(submitted++);
		if (submitted % 64 == 0)
			pause_ms(1);
	}
	return NULL;
}

static void mines_while_it_stops(void)
{
	pthread_t threads[4];
	int i;

	for (i = 0; i < 4; i++)
		pthread_create(&threads[i], NULL, mine, NULL);
	pause_ms(50);
	tbg_events_stop(500);
	pause_ms(50);
	mining = false;
	for (i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	note_counts();
	said->phase = submitted;
}

/* Cuts the shared memory off where its counters begin. */
static void cut_memory(void)
{
	char command[256];

	snprintf(command, sizeof(command), "truncate -s %zu %s/*.boot",
		 offsetof(struct tbg_page, emitted), folder);
	check(system(command) == 0, "the shared memory is cut off before its counters");
}

/* Takes the shared memory away, as when a container starts again. */
static void forget_memory(void)
{
	folder_clear(".boot");
}

static void next_boot_says(const char *sentence, const char *wanted_state, long last_seq, long unsent)
{
	const struct status *former = NULL;
	char instance[128] = "";
	pid_t child;
	int i;

	begin();
	appear();
	child = engine(lives);
	until_phase(1);	/* so that the next phase is not overwritten */
	until_running();
	said->phase = 2;
	check(ended_heard(child) == 0, "the next boot lives and stops");
	for (i = 0; i < count; i++) {
		if (!strcmp(statuses[i].state, wanted_state) && statuses[i].last_seq == last_seq &&
		    statuses[i].unsent == unsent)
			former = &statuses[i];
		if (!strcmp(statuses[i].state, "running"))
			memcpy(instance, statuses[i].instance, sizeof(instance));
	}
	if (!check(former != NULL && *instance, "%s: %s at %ld, %ld unsent", sentence, wanted_state,
		   last_seq, unsent)) {
		for (i = 0; i < count; i++)
			printf("# %s %s %ld %ld\n", statuses[i].instance, statuses[i].state,
			       statuses[i].last_seq, statuses[i].unsent);
		return;
	}
	check(strcmp(former->instance, instance) != 0, "and it is said of the former instance");
	vanish();
}

static void heard(void)
{
	const struct status *end;
	pid_t child;

	begin();
	appear();
	child = engine(stops_cleanly);
	check(ended_heard(child) == 0 && events == 300, "an engine sends what it has and stops");
	end = &statuses[count - 1];
	check(count >= 2 && !strcmp(statuses[0].state, "running") && statuses[0].last_seq <= 300,
	      "it says soon that it runs");
	check(!strcmp(end->state, "ended") && end->last_seq == 300 && end->unsent == 0 &&
	      end->events == 300, "and last of all where its numbers end");
	vanish();
	next_boot_says("the next boot repeats it", "ended", 300, 0);
	next_boot_says("so does the one after it, as no receiver had it for long", "ended", 300, 0);
}

static void killed(void)
{
	pid_t child;
	int i, nought = 0;

	begin();
	child = engine(dies_at_once);
	check(ended(child) == -SIGKILL && said->emitted == 3000, "an engine is killed unheard");
	next_boot_says("exact after kill -9", "ended", 3000, 3000);

	begin();
	child = engine(dies_later);
	check(ended(child) == -SIGKILL, "another is killed, and its memory is gone");
	forget_memory();
	next_boot_says("the file's word, a lower bound", "crashed", 3000, -1);

	begin();
	child = engine(dies_later);
	check(ended(child) == -SIGKILL, "and a third, and its memory is cut short");
	cut_memory();
	next_boot_says("the file's word as well", "crashed", 3000, -1);
	for (i = 0; i < count; i++)
		nought += statuses[i].last_seq == 0 && !strcmp(statuses[i].state, "ended");
	check(nought == 0, "and not that it gave no number");

	begin();
	child = engine(dies_later);
	check(ended(child) == -SIGKILL, "killed while nobody listens");
	child = engine(stops_unheard);
	check(ended(child) == 0, "and another stops unheard");
	next_boot_says("both are said: the killed one", "ended", 3000, 3000);
	check(last_of("ended", true) != NULL, "and itself");
}

static void many_boots(void)
{
	int i, former = 0;

	forget_memory();
	unlink(boots);
	for (i = 0; i < 5; i++) {
		begin();
		ended(engine(stops_unheard));
	}
	begin();
	appear();
	pid_t child = engine(lives);
	until_phase(1);	/* so that the next phase is not overwritten */
	until_running();
	for (i = 0; i < count; i++)
		former += statuses[i].last_seq == 3000 && statuses[i].unsent == 3000 &&
			  !strcmp(statuses[i].state, "ended");
	check(former == 5, "every boot that ended unheard is said (%d)", former);
	said->phase = 2;
	ended_heard(child);
	vanish();
}

static void mined_while_stopping(void)
{
	pid_t child;

	begin();
	appear();	/* and reads nothing until it is over */
	child = engine(mines_while_it_stops);
	check(ended(child) == 0, "an engine stops while miners go on and the receiver is stuck");
	check(said->emitted == said->phase && said->sent < said->emitted,
	      "every share is counted, those at the end as well (%ld of %ld)", (long)said->emitted,
	      (long)said->phase);
	vanish();
	next_boot_says("and the next boot says how many", "ended", said->emitted, said->emitted - said->sent);
}

static void damaged(void)
{
	struct tbg_boot first, garbage;
	int file, i, changed;

	begin();
	ended(engine(stops_unheard));
	forget_memory();
	file = open(boots, O_RDWR);
	for (i = 0; i < TBG_BOOTS; i++) {
		check(pread(file, &first, sizeof(first), i * (off_t)sizeof(first)) == sizeof(first) ||
		      i > 0, "the file has places");
		if (i == 0)
			break;
	}
	memset(&garbage, 0xa5, sizeof(garbage));
	check(pwrite(file, &garbage, sizeof(garbage), 20 * (off_t)sizeof(garbage)) == sizeof(garbage) &&
	      !ftruncate(file, 21 * (off_t)sizeof(garbage) - 7), "a place is damaged and another cut off");
	/* One whose number was changed by a bit. */
	garbage = first;
	garbage.emitted = 3001;
	check(pwrite(file, &garbage, sizeof(garbage), 5 * (off_t)sizeof(garbage)) == sizeof(garbage),
	      "and one has another number");
	close(file);
	next_boot_says("what can be read is said", "ended", 3000, 3000);
	for (i = changed = 0; i < count; i++)
		changed += statuses[i].last_seq == 3001;
	check(changed == 0, "and nothing else");
	file = open(boots, O_RDWR | O_TRUNC);
	check(write(file, "hello", 5) == 5, "a file of another kind");
	close(file);
	forget_memory();
	begin();
	appear();
	check(ended_heard(engine(stops_cleanly)) == 0 && events == 300, "does no harm");
	vanish();
}

static void second_engine(void)
{
	unlink(state);
	begin();
	appear();
	pid_t first = engine(lives), second;

	until_phase(1);
	if (!(second = fork())) {
		close(fd);
		if (!tbg_events_start("eu1", NULL, keep_log))
			_exit(3);
		emit_some(5);
		tbg_events_stop(20000);
		_exit(logged("another engine that runs keeps its state in") &&
		      access(state, F_OK) != 0 ? 0 : 4);
	}
	check(ended(second) == 0, "a second engine with the same state file says so and leaves it alone");
	said->phase = 2;
	check(ended_heard(first) == 0, "and the first goes on");
	check(last_of("crashed", true) == NULL, "and is not declared dead");
	vanish();
}

int main(void)
{
	said = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	snprintf(path, sizeof(path), "/tmp/tbg-boot-%d.sock", (int)getpid());
	folder_make("boot");
	snprintf(boots, sizeof(boots), "%s.boots", state);
	setenv("TBG_EVENTS_SOCKET", path, 1);
	heard();
	killed();
	many_boots();
	mined_while_stopping();
	damaged();
	second_engine();
	vanish();
	folder_remove();
	return finish();
}
