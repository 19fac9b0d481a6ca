/* Moves the wall clock of the program that it is preloaded into.
 *
 * The file named by TBG_TEST_CLOCK holds one 64-bit number: by how many microseconds. It is mapped,
 * so that the clock moves while the program runs. Without the file the clock is right. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const volatile int64_t *offset;

__attribute__((constructor)) static void map_offset(void)
{
	const char *path = getenv("TBG_TEST_CLOCK");
	int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;

	if (file < 0)
		return;
	void *mapped = mmap(NULL, sizeof(*offset), PROT_READ, MAP_SHARED, file, 0);

	close(file);
	if (mapped != MAP_FAILED)
		offset = mapped;
}

int clock_gettime(clockid_t id, struct timespec *now)
{
	int failed = (int)syscall(SYS_clock_gettime, id, now);

	if (!failed && offset && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) {
		int64_t micros = now->tv_sec * 1000000LL + now->tv_nsec / 1000 + *offset;

		now->tv_sec = micros / 1000000;
		now->tv_nsec = micros % 1000000 * 1000;
	}
	return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
	struct timespec found;

	(void)zone;
	if (clock_gettime(CLOCK_REALTIME, &found))
		return -1;
	now->tv_sec = found.tv_sec;
	now->tv_usec = found.tv_nsec / 1000;
	return 0;
}

time_t time(time_t *seconds)
{
	struct timespec found;

	clock_gettime(CLOCK_REALTIME, &found);
	if (seconds)
		*seconds = found.tv_sec;
	return found.tv_sec;
}
