// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
// Copyright (c) 2026 The Twostep authors

#define _GNU_SOURCE
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include <kselftest_harness.h>

#include "filter.h"
#include "options.h"
#include "place.h"
#include "report.h"
#include "suite.h"
#include "watch.h"

/* The suite ends a late test itself, with words; the harness does so after as long again. */
#define HARNESS_LATER 2

/**
 * struct chosen - a test that the options ask for
 * @test: which
 * @order: its place among the others, drawn if they are shuffled
 */
struct chosen {
	const struct test *test;
	uint64_t order;
};

/* Outside of a test nobody reads what is said there. */
static struct board no_board;
static struct __test_results no_words;

struct board *board = &no_board;

static const struct test **known;
static size_t nr_known;
static uint64_t sequence;

/* Shared with the processes of tests. */
static struct __test_results *words = &no_words;

/* What the harness knows of the test that runs now. */
static struct __test_metadata *now;
static const struct test *running;
static size_t round_now;

void tests_add(const struct test *tests, size_t nr)
{
	known = realloc(known, (nr_known + nr) * sizeof(*known));
	for (size_t i = 0; i < nr; i++)
		known[nr_known++] = &tests[i];
}

static void say(const char *what, const char *format, va_list arguments)
{
	char sentence[512];

	vsnprintf(sentence, sizeof(sentence), format, arguments);
	printf("# %s%s%s: %s\n", what, *doing ? " at " : "", doing, sentence);
	fflush(stdout);
}

void wrong(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	say("wrong", format, arguments);
	va_end(arguments);
	va_start(arguments, format);
	vsnprintf(words->reason, sizeof(words->reason), format, arguments);
	va_end(arguments);
	_exit(KSFT_FAIL);
}

void skip(enum lacking lacking, const char *format, ...)
{
	static const char *const who[] = { "kernel", "device", "library",
					   "machine" };
	va_list arguments;
	size_t length;

	length = snprintf(words->reason, sizeof(words->reason),
			  "%s: ", who[lacking]);
	va_start(arguments, format);
	vsnprintf(words->reason + length, sizeof(words->reason) - length,
		  format, arguments);
	va_end(arguments);
	printf("# skipped, %s\n", words->reason);
	fflush(stdout);
	if (options.require && list_has(options.require, running->name))
		wrong("required, and skipped: %s", strdup(words->reason));
	_exit(KSFT_SKIP);
}

void child_ended(int status)
{
	if (WIFSIGNALED(status))
		wrong("a child was ended by signal %d", WTERMSIG(status));
	/* The reason is written already. */
	if (WEXITSTATUS(status) == KSFT_FAIL ||
	    WEXITSTATUS(status) == KSFT_SKIP)
		_exit(WEXITSTATUS(status));
	if (WEXITSTATUS(status))
		wrong("a child ended with %d", WEXITSTATUS(status));
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
	sequence = options.seed + round_now;
	for (; *name; name++)
		sequence = (sequence ^ (unsigned char)*name) * 0x100000001b3ULL;
}

/* Runs in the test's process. */
static void run_in_process(struct __test_metadata *metadata,
			   struct __fixture_variant_metadata *variant)
{
	(void)metadata;
	(void)variant;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (running->root && geteuid())
		skip(MACHINE, "only root may do it");
	begin_sequence(running->name);
	running->run(running->what);
	fflush(stdout);
}

const struct test *test_begin(const char *name, uint64_t seed)
{
	/* Not the numbers of the other side. */
	options.seed = ~seed;
	for (size_t i = 0; i < nr_known; i++)
		if (!strcmp(known[i]->name, name)) {
			running = known[i];
			begin_sequence(name);
			return running;
		}
	return NULL;
}

void test_is_late(double seconds)
{
	snprintf(words->reason, sizeof(words->reason),
		 "not done in %.0f s, at: %s", seconds, doing);
}

const char *test_name(void)
{
	return running->name;
}

static double seconds(void)
{
	struct timespec clock;

	clock_gettime(CLOCK_MONOTONIC, &clock);
	return clock.tv_sec + clock.tv_nsec / 1e9;
}

static enum outcome outcome_of(const struct __test_metadata *metadata)
{
	if (metadata->exit_code == KSFT_SKIP)
		return SKIPPED_TEST;
	return metadata->exit_code ? FAILED_TEST : PASSED_TEST;
}

static void run_test(const struct test *test, struct results *results)
{
	struct __fixture_variant_metadata no_variant = { .name = "" };
	struct __fixture_metadata group = {};
	/* The harness puts a dot between the group and the rest. */
	char *name = strdup(test->name), *dot = strchr(name, '.');
	double allowed = (test->seconds ? test->seconds : DEADLINE) *
			 options.timeout_scale;
	double begin = seconds();
	enum outcome outcome;

	if (test->lasts)
		allowed += options.seconds + options.count;
	*dot = 0;
	group.name = name;
	memset(board, 0, sizeof(*board));
	running = test;
	*now = (struct __test_metadata){
		.name = dot + 1,
		.fn = run_in_process,
		.fixture = &group,
		.termsig = -1,
		.timeout = HARNESS_LATER * allowed + 1,
		.results = words,
	};
	watch_begin(&now->pid, allowed);
	__run_test(&group, &no_variant, now);
	outcome = outcome_of(now);
	/* Children of its own that it left behind. */
	if (now->pid > 0)
		kill(-now->pid, SIGKILL);
	watch_end();
	if (outcome == FAILED_TEST && !*words->reason)
		snprintf(words->reason, sizeof(words->reason),
			 "its process ended, at: %s", doing);
	results_add(results, test->name, place.device, outcome,
		    outcome == PASSED_TEST ? "" : words->reason,
		    seconds() - begin);
	free(name);
}

static int by_order(const void *a, const void *b)
{
	const struct chosen *one = a, *other = b;

	return (one->order > other->order) - (one->order < other->order);
}

/* In the order of names, group by group, unless they are shuffled. */
static int by_name(const void *a, const void *b)
{
	const struct chosen *one = a, *other = b;

	return strcmp(one->test->name, other->test->name);
}

static struct chosen *choose(size_t *nr)
{
	struct chosen *chosen = calloc(nr_known, sizeof(*chosen));

	*nr = 0;
	for (size_t i = 0; i < nr_known; i++)
		if (filter_matches(options.filter, known[i]->name))
			chosen[(*nr)++].test = known[i];
	qsort(chosen, *nr, sizeof(*chosen), by_name);
	if (!*nr)
		fprintf(stderr, "odp-tests: no test is called '%s'\n",
			options.filter);
	return chosen;
}

static void shuffle(struct chosen *chosen, size_t nr)
{
	begin_sequence("shuffle");
	for (size_t i = 0; i < nr; i++)
		chosen[i].order = draw();
	qsort(chosen, nr, sizeof(*chosen), by_order);
}

int list_tests(void)
{
	struct chosen *chosen;
	size_t nr;

	chosen = choose(&nr);
	for (size_t i = 0; i < nr; i++)
		printf("%s%s\n", chosen[i].test->name,
		       chosen[i].test->root ? "  (root)" : "");
	free(chosen);
	return nr ? 0 : BAD_OPTION;
}

static void *shared(size_t size)
{
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED) {
		perror("odp-tests: no memory");
		exit(FAILED);
	}
	return memory;
}

static void print_header(const struct place *places, size_t nr_places,
			 size_t nr_tests)
{
	struct utsname kernel;

	uname(&kernel);
	printf("KTAP version 1\n");
	printf("# seed %llu (--seed repeats it), kernel %s\n",
	       (unsigned long long)options.seed, kernel.release);
	for (size_t i = 0; i < nr_places; i++)
		place_print(&places[i]);
	ksft_set_plan(nr_tests * nr_places * options.repeat);
}

static bool is_enough(const struct results *results)
{
	return options.fail_fast && results_count(results, FAILED_TEST);
}

static void run_at(const struct place *at, bool one_of_many,
		   const struct chosen *chosen, size_t nr,
		   struct results *results)
{
	place = *at;
	if (one_of_many)
		place_print(at);
	for (size_t i = 0; i < nr && !is_enough(results); i++)
		run_test(chosen[i].test, results);
}

int run_tests(void)
{
	struct place places[MOST_DEVICES];
	struct results results = {};
	struct chosen *chosen;
	size_t nr, nr_places;
	double begin = seconds();
	int status = 0;

	chosen = choose(&nr);
	if (!nr)
		return BAD_OPTION;
	nr_places = places_choose(places, COUNT(places));
	if (!nr_places || !reports_open())
		return BAD_OPTION;
	board = shared(sizeof(*board));
	words = shared(sizeof(*words));
	now = shared(sizeof(*now));
	print_header(places, nr_places, nr);
	for (round_now = 0; round_now < options.repeat; round_now++) {
		if (options.repeat > 1)
			printf("# round %zu: --seed=%llu repeats it\n",
			       round_now + 1,
			       (unsigned long long)options.seed + round_now);
		if (options.shuffle)
			shuffle(chosen, nr);
		for (size_t i = 0; i < nr_places && !is_enough(&results); i++)
			run_at(&places[i], nr_places > 1, chosen, nr, &results);
	}
	if (is_enough(&results))
		printf("Bail out! %s failed\n",
		       results.all[results.nr - 1].name);
	print_summary(&results, seconds() - begin);
	if (!reports_write(&results) || results_count(&results, FAILED_TEST))
		status = FAILED;
	else if (results_count(&results, SKIPPED_TEST) == results.nr)
		status = SKIPPED;
	results_free(&results);
	free(chosen);
	return status;
}
