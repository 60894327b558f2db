/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Copyright (c) 2026 The Twostep authors */
/*
 * How a test ends: in a process of its own, with one sentence when something is wrong.
 */
#ifndef SAY_H
#define SAY_H

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

/* How long a test may take. */
#define TEST_SECONDS 120

/* Run tests, each in a process of its own, and say as KTAP how they ended. Returns a status. */
int run_tests(const struct test *tests, size_t nr, const char *only);

/* Numbers that a seed repeats. Each test has its own sequence, from the seed and its name. */
extern uint64_t seed;
uint64_t draw(void);

/* A number below @limit. */
size_t below(size_t limit);

#endif /* SAY_H */
