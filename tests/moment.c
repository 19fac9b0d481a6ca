/* Shows every program that loads it (LD_PRELOAD) the wall clock moved by
 * TBG_TEST_MOMENT seconds. Monotonic clocks, and with them every wait, stay as they are;
 * a wait for an absolute time of the wall clock is moved back. See moment.py. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static time_t moved_by(void)
{
	const char *seconds = getenv("TBG_TEST_MOMENT");

	return seconds ? atoll(seconds) : 0;
}

static time_t by;

__attribute__((constructor)) static void start(void)
{
	by = moved_by();
}

static int wall(clockid_t id)
{
	return id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE || id == CLOCK_TAI;
}

int clock_gettime(clockid_t id, struct timespec *now)
{
	int failed = (int)syscall(SYS_clock_gettime, id, now);

	if (!failed && wall(id))
		now->tv_sec += by;
	return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
	struct timespec read;

	(void)zone;
	clock_gettime(CLOCK_REALTIME, &read);
	now->tv_sec = read.tv_sec;
	now->tv_usec = read.tv_nsec / 1000;
	return 0;
}

time_t time(time_t *now)
{
	struct timespec read;

	clock_gettime(CLOCK_REALTIME, &read);
	if (now)
		*now = read.tv_sec;
	return read.tv_sec;
}

int sem_timedwait(sem_t *restrict what, const struct timespec *restrict until)
{
	static int (*real)(sem_t *, const struct timespec *);
	struct timespec moved = { until->tv_sec - by, until->tv_nsec };

	if (!real)
		*(void **)&real = dlsym(RTLD_NEXT, "sem_timedwait");
	return real(what, &moved);
}
