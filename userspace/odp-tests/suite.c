// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
// Copyright (c) 2026 The Twostep authors

#include <fnmatch.h>
#include <getopt.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "suite.h"

enum { FAILED = 1, BAD_OPTION = 2, SKIPPED = 4 };

unsigned int test_seconds = 120;
char doing[256];
struct options options = { .device = "rxe0", .gid_index = 1, .only = "*" };
static uint64_t seed, sequence;

static void sentence(const char *what, const char *format, va_list arguments)
{
	printf("# %s%s%s: ", what, *doing ? " at " : "", doing);
	vprintf(format, arguments);
	printf("\n");
	fflush(stdout);
}

void wrong(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	sentence("wrong", format, arguments);
	va_end(arguments);
	_exit(FAILED);
}

void skip(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	sentence("skipped", format, arguments);
	va_end(arguments);
	_exit(SKIPPED);
}

uint64_t draw(void)
{
	uint64_t x;

	/* splitmix64 */
	sequence += 0x9e3779b97f4a7c15ULL;
	x = sequence;
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ULL;
	x = (x ^ x >> 27) * 0x94d049bb133111ebULL;
	return x ^ x >> 31;
}

size_t below(size_t limit)
{
	return draw() % limit;
}

static void begin_sequence(const char *name)
{
	sequence = seed;
	for (; *name; name++)
		sequence = (sequence ^ (unsigned char)*name) * 0x100000001b3ULL;
}

static void too_late(int signal)
{
	static const char text[] = "# wrong: not done in time: ";

	(void)signal;
	(void)!write(STDOUT_FILENO, text, sizeof(text) - 1);
	(void)!write(STDOUT_FILENO, doing, strlen(doing));
	(void)!write(STDOUT_FILENO, "\n", 1);
	_exit(FAILED);
}

static int run_test(const struct test *test)
{
	int status;
	pid_t child;

	fflush(stdout);
	child = fork();
	if (!child) {
		signal(SIGALRM, too_late);
		alarm(test_seconds);
		begin_sequence(test->name);
		test->run(test->what);
		fflush(stdout);
		_exit(0);
	}
	if (child < 0 || waitpid(child, &status, 0) != child)
		return FAILED;
	if (WIFSIGNALED(status)) {
		printf("# ended by signal %d\n", WTERMSIG(status));
		return FAILED;
	}
	return WEXITSTATUS(status);
}

static double seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec + now.tv_nsec / 1e9;
}

static int read_options(int argc, char **argv)
{
	int option;

	seed = time(NULL);
	while ((option = getopt(argc, argv, "d:x:s:f:n:r")) != -1) {
		if (option == 'd')
			options.device = optarg;
		else if (option == 'x')
			options.gid_index = atoi(optarg);
		else if (option == 's')
			seed = strtoull(optarg, NULL, 0);
		else if (option == 'f')
			options.only = optarg;
		else if (option == 'n')
			options.count = strtoul(optarg, NULL, 0);
		else if (option == 'r')
			options.require = true;
		else
			return BAD_OPTION;
	}
	return 0;
}

static bool is_chosen(const struct test *test)
{
	return !fnmatch(options.only, test->name, 0);
}

int run_tests(int argc, char **argv, const struct test *tests, size_t nr)
{
	size_t chosen = 0, failed = 0, skipped = 0, number = 0;
	double begin;
	int status;

	if (read_options(argc, argv)) {
		fprintf(stderr,
			"usage: %s [-d DEVICE] [-x GID_INDEX] [-s SEED] "
			"[-f NAMES] [-n COUNT] [-r]\n",
			argv[0]);
		return BAD_OPTION;
	}
	for (size_t i = 0; i < nr; i++)
		chosen += is_chosen(&tests[i]);
	printf("KTAP version 1\n# seed %llu (-s sets it)\n1..%zu\n",
	       (unsigned long long)seed, chosen);
	for (size_t i = 0; i < nr; i++) {
		if (!is_chosen(&tests[i]))
			continue;
		begin = seconds();
		status = run_test(&tests[i]);
		printf("# took %.1f s\n", seconds() - begin);
		if (status == SKIPPED && options.require)
			status = FAILED;
		skipped += status == SKIPPED;
		failed += status && status != SKIPPED;
		printf("%sok %zu %s%s\n",
		       status && status != SKIPPED ? "not " : "", ++number,
		       tests[i].name, status == SKIPPED ? " # SKIP" : "");
	}
	if (failed || !chosen)
		return FAILED;
	return skipped == chosen ? SKIPPED : 0;
}
