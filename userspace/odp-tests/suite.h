/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Copyright (c) 2026 The Twostep authors */
/*
 * Tests: each in a process of its own, with a deadline, that ends with one sentence when
 * something is wrong, and random numbers that a seed repeats.
 *
 * The process, its deadline's kill and the line of KTAP are those of the kernel's own
 * kselftest_harness.h. This adds what it does not have: names with groups that a filter
 * chooses, tests that are made as the program goes, reasons to skip of several kinds, random
 * numbers, and the words of a test that is late.
 *
 * A test's name is GROUP.WHAT, with more dots if it has variants. It says what is true if the
 * test passes, or what is tried.
 */
#ifndef SUITE_H
#define SUITE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define COUNT(array) (sizeof(array) / sizeof(*(array)))

/**
 * struct board - what a test's process says of itself; the suite reads it when the test is late
 * @doing: what it is about
 * @regions: memory that it has registered last
 * @nr_regions: registered so far, COUNT(regions) of them are in @regions
 */
struct board {
	char doing[256];
	struct {
		const void *bytes;
		size_t size;
	} regions[16];
	size_t nr_regions;
};

extern struct board *board;

/* What is being done, for the sentence. */
#define doing (board->doing)

/* Something is not as it must be. Ends the process. */
__attribute__((noreturn, format(printf, 1, 2))) void wrong(const char *format,
							   ...);

/**
 * enum lacking - who says no
 * @KERNEL: it has no such thing, or was configured without
 * @DEVICE: it does not announce the capability
 * @LIBRARY: libibverbs or the provider does not know it
 * @MACHINE: it is not set up for the test: rights, swap, another node
 */
enum lacking { KERNEL, DEVICE, LIBRARY, MACHINE };

/* The test cannot be made here. Ends the process. */
__attribute__((noreturn, format(printf, 2, 3))) void
skip(enum lacking lacking, const char *format, ...);

/*
 * A child of the test's process ended with this status of waitpid(2): what it found wrong, or
 * skipped for, ends the test. Returns if it exited with 0.
 */
void child_ended(int status);

struct channel;

/**
 * struct test - something to show
 * @name: GROUP.WHAT
 * @run: shows it, or calls wrong() or skip()
 * @what: for @run
 * @serve: the other host's side of it, for a test of two
 * @seconds: how long it may take, DEADLINE if 0
 * @root: only root may do it
 * @lasts: as long as the user asks (-D, or a second for each of -n), besides @seconds
 */
struct test {
	const char *name;
	void (*run)(const void *what);
	const void *what;
	void (*serve)(struct channel *channel, const void *what);
	unsigned int seconds;
	bool root;
	bool lasts;
};

#define DEADLINE 120

/* Make tests known; @tests stays where it is. */
void tests_add(const struct test *tests, size_t nr);

/* The same of a file's table, before main(). */
#define TESTS(tests)                                                \
	static void __attribute__((constructor)) know_##tests(void) \
	{                                                           \
		tests_add(tests, COUNT(tests));                     \
	}

/*
 * Run the tests that the options choose and say on stdout, as KTAP, how they ended; write the
 * reports that the options name. Returns a status: 0, 1 if a test failed, 2 if the options choose
 * nothing, 4 if all skipped.
 */
int run_tests(void);

/* Be the process of the other host's side of a test, with its random numbers. NULL: no such. */
const struct test *test_begin(const char *name, uint64_t seed);

/* Give the test that runs the reason that it was late. */
void test_is_late(double seconds);

/* The name of the test that runs. */
const char *test_name(void);

/* Print the names of the tests that the options choose. Returns a status. */
int list_tests(void);

/* A number. Each test has its own sequence, from the seed and its name. */
uint64_t draw(void);

/* A number below @limit. */
size_t below(size_t limit);

#endif /* SUITE_H */
