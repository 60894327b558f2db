/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Copyright (c) 2026 The Twostep authors */
/*
 * A program of tests: its options, each test in a process of its own that ends with one
 * sentence when something is wrong, and random numbers that a seed repeats.
 */
#ifndef SUITE_H
#define SUITE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define COUNT(array) (sizeof(array) / sizeof(*(array)))

/* What is being done, for the sentence. */
extern char doing[256];

/* Something is not as it must be. Ends the process. */
__attribute__((noreturn, format(printf, 1, 2))) void wrong(const char *format,
							   ...);

/* The kernel, the device or the library cannot do it. Ends the process. */
__attribute__((noreturn, format(printf, 1, 2))) void skip(const char *format,
							  ...);

/**
 * struct test - something to show
 * @name: what is true if it passes
 * @run: shows it, or calls wrong() or skip()
 * @what: for @run
 */
struct test {
	const char *name;
	void (*run)(const void *what);
	const void *what;
};

/* How long a test may take; main() may change it. */
extern unsigned int test_seconds;

/**
 * struct options - what the user asks for
 * @device: RDMA device (-d)
 * @gid_index: in the table of its port 1 (-x)
 * @only: names of tests, with wildcards (-f)
 * @count: how often, for tests that repeat something (-n); 0: as they like
 * @require: a test that skips fails (-r)
 */
struct options {
	const char *device;
	int gid_index;
	const char *only;
	size_t count;
	bool require;
};

extern struct options options;

/*
 * Read the options, run the tests that they choose, and say as KTAP how they ended. Returns a
 * status: 0, 1 if a test failed or none was chosen, 2 for a bad option, 4 if all skipped.
 */
int run_tests(int argc, char **argv, const struct test *tests, size_t nr);

/* A number. Each test has its own sequence, from the seed (-s) and its name. */
uint64_t draw(void);

/* A number below @limit. */
size_t below(size_t limit);

#endif /* SUITE_H */
