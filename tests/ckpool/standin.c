/* Stands in for upstream's main program, where the image's build is tried without it:
 * the same options, the same report of a configuration, and Stratum on a port, which
 * the miniature stratifier answers. It finds work without a node. */

#include <arpa/inet.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ckpool.h"
#include "connector.h"
#include "stratifier.h"

ckpool_t ckpool = { .name = "ckpool", .btcsig = "/standin/" };

static char logdir[512];

void logmsg(int level, const char *format, ...)
{
	va_list list;

	if (level > LOG_NOTICE)
		return;
	va_start(list, format);
	vfprintf(stderr, format, list);
	va_end(list);
	fputc('\n', stderr);
}

static void without_comma(char *text)
{
	text[strcspn(text, ",\n")] = '\0';
}

/* Reads a file of one setting a line; one that cannot be read is only logged, and its
 * settings stay as they are. `report` prints them. */
static int read_config(const char *path, int report)
{
	char line[512], key[64], value[400], url[400] = "";
	int nodes = 0, port = 3333;
	FILE *file = fopen(path, "r");

	if (report)
		printf("mode = btcsolo\n");
	while (file && fgets(line, sizeof(line), file)) {
		if (sscanf(line, " \"%63[^\"]\": [\"%399[^\"]\"]", key, value) == 2) {
			port = atoi(strrchr(value, ':') + 1);
			if (report)
				printf("%ss = 1\n%s[0] = %s type=sv1 highdiff=0\n", key, key, value);
		} else if (sscanf(line, " \"%63[^\"]\": \"%399[^\"]\"", key, value) == 2) {
			if (!strcmp(key, "url"))
				strcpy(url, value);
			else if (!strcmp(key, "logdir"))
				snprintf(logdir, sizeof(logdir), "%s", value);
			if (report && strcmp(key, "url") && strcmp(key, "auth") && strcmp(key, "pass") &&
			    strcmp(key, "version_mask"))
				printf("%s = %s\n", key, value);
		} else if (sscanf(line, " \"%63[^\"]\": %399s", key, value) == 2) {
			without_comma(value);
			if (!report || *value == '[')
				continue;
			if (!strcmp(key, "notify"))
				printf("btcdurl[%d] = %s notify=%d\n", nodes++, url, *value == 't');
			else if (!strcmp(key, "donation"))
				printf("%s = %.2f\n", key, atof(value));
			else
				printf("%s = %s\n", key, value);
		}
	}
	if (report)
		printf("btcds = %d\n", nodes);
	if (file)
		fclose(file);
	return port;
}

static int listen_on(int port)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
	int on = 1, fd = socket(AF_INET, SOCK_STREAM, 0);

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) || listen(fd, 64)) {
		perror("bind");
		exit(1);
	}
	return fd;
}

int main(int argc, char **argv)
{
	static struct genwork wb = { .height = 102, .coinbasevalue = 5000000000, .network_diff = 1e9 };
	const char *conf = "";
	int option, test = 0, port, number;
	pthread_t listener;
	sigset_t ends;

	while ((option = getopt(argc, argv, "hTBqc:s:")) != -1) {
		if (option == 'h')
			return puts("-T | --test-config") < 0;
		test |= option == 'T';
		if (option == 'c')
			conf = optarg;
	}
	port = read_config(conf, test);
	if (test) {
		printf("Configuration check of %s passed\n", conf);
		return 0;
	}
	sigemptyset(&ends);
	sigaddset(&ends, SIGTERM);
	sigprocmask(SIG_BLOCK, &ends, NULL);
	ckpool.logdir = logdir;
	stratifier(NULL);
	stratum_work(&wb);
	pthread_create(&listener, NULL, connector, connector_new(listen_on(port)));
	sigwait(&ends, &number);
	return 0;
}
