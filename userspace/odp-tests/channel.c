// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
// Copyright (c) 2026 The Twostep authors

#define _GNU_SOURCE
#include <endian.h>
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "channel.h"
#include "options.h"
#include "suite.h"

void channel_put(struct channel *channel, const void *bytes, size_t length)
{
	const char *at = bytes;
	ssize_t sent;

	if (channel->patience)
		alarm(channel->patience);
	for (; length; at += sent, length -= sent) {
		sent = send(channel->socket, at, length, MSG_NOSIGNAL);
		if (sent <= 0)
			wrong("the other host has given up");
	}
}

void channel_get(struct channel *channel, void *bytes, size_t length)
{
	if (channel->patience)
		alarm(channel->patience);
	if (recv(channel->socket, bytes, length, MSG_WAITALL) !=
	    (ssize_t)length)
		wrong("the other host has given up; it says why");
}

void channel_put_number(struct channel *channel, uint64_t number)
{
	number = htobe64(number);
	channel_put(channel, &number, sizeof(number));
}

uint64_t channel_get_number(struct channel *channel)
{
	uint64_t number;

	channel_get(channel, &number, sizeof(number));
	return be64toh(number);
}

void channel_meet(struct channel *channel, uint64_t step)
{
	uint64_t theirs;

	channel_put_number(channel, step);
	theirs = channel_get_number(channel);
	if (theirs != step)
		wrong("the other host is at step %llu, this one at %llu",
		      (unsigned long long)theirs, (unsigned long long)step);
}

static int resolve(struct addrinfo **found)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM };
	char port[8];

	snprintf(port, sizeof(port), "%u", options.tcp_port);
	return getaddrinfo(options.host, port, &hints, found);
}

bool channel_host_known(void)
{
	struct addrinfo *found;
	int ret = options.host ? resolve(&found) : 0;

	if (ret)
		fprintf(stderr,
			"odp-tests: '%s' is neither a command nor a host: %s\n",
			options.host, gai_strerror(ret));
	else if (options.host)
		freeaddrinfo(found);
	return !ret;
}

static int connect_to_host(void)
{
	int ret, channel = -1;
	struct addrinfo *found;

	ret = resolve(&found);
	if (ret)
		wrong("%s: %s", options.host, gai_strerror(ret));
	for (struct addrinfo *at = found; at && channel < 0; at = at->ai_next) {
		channel = socket(at->ai_family, at->ai_socktype, 0);
		if (channel >= 0 &&
		    connect(channel, at->ai_addr, at->ai_addrlen)) {
			close(channel);
			channel = -1;
		}
	}
	if (channel < 0)
		wrong("%s does not serve at port %u: %s", options.host,
		      options.tcp_port, strerror(errno));
	freeaddrinfo(found);
	return channel;
}

void channel_open(struct channel *channel)
{
	char name[LONGEST_NAME] = "";
	uint64_t version;

	*channel = (struct channel){ .socket = -1 };
	if (!options.host)
		skip(MACHINE, "no other host was named");
	channel->socket = connect_to_host();
	snprintf(name, sizeof(name), "%s", test_name());
	channel_put(channel, CHANNEL_MAGIC, strlen(CHANNEL_MAGIC));
	channel_put_number(channel, CHANNEL_VERSION);
	channel_put_number(channel, options.seed);
	channel_put(channel, name, sizeof(name));
	version = channel_get_number(channel);
	if (version != CHANNEL_VERSION)
		wrong("%s has version %llu of the tests' protocol, this is %d",
		      options.host, (unsigned long long)version,
		      CHANNEL_VERSION);
}

void channel_close(struct channel *channel)
{
	close(channel->socket);
}
