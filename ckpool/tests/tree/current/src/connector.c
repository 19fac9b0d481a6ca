/*
 * Part of The Bitcoin Game's ckpool fork.
 * Copyright (C) 2026 The Bitcoin Game
 * SPDX-License-Identifier: GPL-3.0-or-later
 */

/* Connections: accepts them, cuts what comes into lines, and hands these on with the
 * address that they came from. A thread has a connection to itself until it arms it
 * again, as upstream's threads do, which take the lock before and after as well. */

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ckpool.h"
#include "libckpool.h"
#include "stratifier.h"
#include "connector.h"

#define MSG_MOST 1024

typedef struct client_instance client_instance_t;

struct client_instance {
	UT_hash_handle hh;
	int fd;
	struct sockaddr_storage address_storage;
	char address_name[INET6_ADDRSTRLEN];
	char buf[2 * MSG_MOST + 1];
	unsigned long bufofs;
	struct stratum_instance *stratum;
};

struct connector_data {
	int serverfd, epfd;
	pthread_mutex_t lock;
};

static void arm(cdata_t *cdata, int how, client_instance_t *client, int fd)
{
	struct epoll_event event = { .events = EPOLLIN | EPOLLRDHUP | EPOLLONESHOT,
				     .data.ptr = client };

	pthread_mutex_lock(&cdata->lock);
	epoll_ctl(cdata->epfd, how, fd, &event);
	pthread_mutex_unlock(&cdata->lock);
}

static void accept_client(cdata_t *cdata)
{
	client_instance_t *client = calloc(1, sizeof(*client));
	struct sockaddr *address = (struct sockaddr *)&client->address_storage;
	socklen_t length = sizeof(client->address_storage);

	client->fd = accept(cdata->serverfd, address, &length);
	if (client->fd < 0) {
		free(client);
		return;
	}
	if (address->sa_family == AF_INET)
		inet_ntop(AF_INET, &((struct sockaddr_in *)address)->sin_addr,
			  client->address_name, INET6_ADDRSTRLEN);
	else
		inet_ntop(AF_INET6, &((struct sockaddr_in6 *)address)->sin6_addr,
			  client->address_name, INET6_ADDRSTRLEN);
	fcntl(client->fd, F_SETFL, O_NONBLOCK);
	arm(cdata, EPOLL_CTL_ADD, client, client->fd);
}

/* Whether the connection goes on. */
static bool parse_client_msg(__maybe_unused cdata_t *cdata, client_instance_t *client)
{
	char answer[256], *eol;
	ssize_t ret;

retry:
	if (client->bufofs > MSG_MOST)
		return false;
	ret = read(client->fd, client->buf + client->bufofs, MSG_MOST);
	if (ret < 1)
		return !ret || errno == EAGAIN;
	client->bufofs += (unsigned long)ret;
	client->buf[client->bufofs] = '\0';
	while ((eol = memchr(client->buf, '\n', client->bufofs))) {
		if (client->buf[0] != '{') {
			LOGINFO("No JSON from %s", client->address_name);
			return false;
		}
		*eol = '\0';
		stratum_line(&client->stratum, client->address_name, client->buf, answer,
			     sizeof(answer));
		if (send(client->fd, answer, strlen(answer), MSG_NOSIGNAL) < 0)
			return false;
		client->bufofs -= (unsigned long)(eol + 1 - client->buf);
		memmove(client->buf, eol + 1, client->bufofs + 1);
	}
	goto retry;
}

static void client_event(cdata_t *cdata, client_instance_t *client, uint32_t events)
{
	bool on = true;

	pthread_mutex_lock(&cdata->lock);
	pthread_mutex_unlock(&cdata->lock);
	if (events & EPOLLIN)
		on = parse_client_msg(cdata, client);
	if (on && !(events & (EPOLLERR | EPOLLHUP | EPOLLRDHUP))) {
		arm(cdata, EPOLL_CTL_MOD, client, client->fd);
		return;
	}
	stratum_line(&client->stratum, client->address_name, NULL, NULL, 0);
	close(client->fd);
	free(client);
}

cdata_t *connector_new(int serverfd)
{
	cdata_t *cdata = calloc(1, sizeof(*cdata));

	pthread_mutex_init(&cdata->lock, NULL);
	cdata->serverfd = serverfd;
	cdata->epfd = epoll_create1(0);
	if (cdata->epfd < 0)
		return NULL;
	arm(cdata, EPOLL_CTL_ADD, NULL, serverfd);
	return cdata;
}

void *connector(void *arg)
{
	struct epoll_event event;
	cdata_t *cdata = arg;

	for (;;) {
		if (epoll_wait(cdata->epfd, &event, 1, -1) != 1)
			continue;
		if (event.data.ptr) {
			client_event(cdata, event.data.ptr, event.events);
		} else {
			accept_client(cdata);
			arm(cdata, EPOLL_CTL_MOD, NULL, cdata->serverfd);
		}
	}
	return NULL;
}
