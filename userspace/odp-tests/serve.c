// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
// Copyright (c) 2026 The Twostep authors

#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "channel.h"
#include "options.h"
#include "place.h"
#include "serve.h"
#include "suite.h"

/* How long the other may be silent. */
#define PATIENCE_SECONDS 300
/* Tests that are served at a time. */
#define MOST_AT_A_TIME 64

static int listen_here(void)
{
	struct sockaddr_in6 address = { .sin6_family = AF_INET6,
					.sin6_port = htons(options.tcp_port),
					.sin6_addr = IN6ADDR_ANY_INIT };
	/* IPv4 too; at once again behind one that ended. */
	int no = 0, yes = 1;
	int server = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (server >= 0 &&
	    !setsockopt(server, IPPROTO_IPV6, IPV6_V6ONLY, &no, sizeof(no)) &&
	    !setsockopt(server, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes)) &&
	    !bind(server, (struct sockaddr *)&address, sizeof(address)) &&
	    !listen(server, 16))
		return server;
	fprintf(stderr, "odp-tests: port %u cannot be served: %s\n",
		options.tcp_port, strerror(errno));
	return -1;
}

static void give_up(int signal)
{
	static const char text[] = "# wrong: the other host is silent\n";

	(void)signal;
	(void)!write(STDOUT_FILENO, text, sizeof(text) - 1);
	_exit(FAILED);
}

/* Never returns. */
static void serve_one(struct channel *channel)
{
	char magic[sizeof(CHANNEL_MAGIC) - 1], name[LONGEST_NAME];
	const struct test *test;
	uint64_t version, seed;

	signal(SIGALRM, give_up);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	channel->patience = PATIENCE_SECONDS;
	channel_get(channel, magic, sizeof(magic));
	if (memcmp(magic, CHANNEL_MAGIC, sizeof(magic)))
		wrong("somebody asks who is no odp-tests");
	version = channel_get_number(channel);
	seed = channel_get_number(channel);
	channel_get(channel, name, sizeof(name));
	name[sizeof(name) - 1] = 0;
	channel_put_number(channel, CHANNEL_VERSION);
	if (version != CHANNEL_VERSION)
		wrong("somebody asks with version %llu",
		      (unsigned long long)version);
	test = test_begin(name, seed);
	if (!test || !test->serve)
		wrong("somebody asks for '%s', which is no test of two", name);
	test->serve(channel, test->what);
	printf("served %s, seed %llu\n", name, (unsigned long long)seed);
	fflush(stdout);
	_exit(0);
}

int serve_tests(void)
{
	struct channel channel = {};
	size_t served = 0;
	int server;
	pid_t child;

	if (!places_choose(&place, 1))
		return BAD_OPTION;
	server = listen_here();
	if (server < 0)
		return BAD_OPTION;
	place_print(&place);
	printf("# serving at port %u\n", options.tcp_port);
	fflush(stdout);
	for (;;) {
		while (served && (served >= MOST_AT_A_TIME ||
				  waitpid(-1, NULL, WNOHANG) > 0)) {
			if (served >= MOST_AT_A_TIME)
				waitpid(-1, NULL, 0);
			served--;
		}
		channel.socket = accept4(server, NULL, NULL, SOCK_CLOEXEC);
		if (channel.socket < 0)
			continue;
		fflush(stdout);
		child = fork();
		if (!child) {
			close(server);
			serve_one(&channel);
		}
		if (child < 0)
			fprintf(stderr, "odp-tests: no process to serve: %s\n",
				strerror(errno));
		served += child > 0;
		close(channel.socket);
	}
}
