/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Copyright (c) 2026 The Twostep authors */
/*
 * How tests ended, as files that other programs read.
 *
 * JUnit: a <testsuite> a group, as GitLab, Jenkins and GitHub's reporters take it.
 * JSON: {"meta": {...}, "results": [{"name", "device", "outcome": "pass|fail|skip", "reason",
 * "lacking": "kernel|device|library|machine" of a skip, "seconds"}]}.
 */
#ifndef REPORT_H
#define REPORT_H

#include <stdbool.h>
#include <stddef.h>

enum outcome { PASSED_TEST, FAILED_TEST, SKIPPED_TEST };

/**
 * struct result - how one test ended
 * @name: of the test
 * @device: it ran on
 * @outcome: as what
 * @reason: why not as a pass, "LACKING: SENTENCE" of a skip
 * @seconds: it took
 */
struct result {
	char *name;
	char *device;
	enum outcome outcome;
	char *reason;
	double seconds;
};

/**
 * struct results - of a run
 * @all: in the order of the run
 * @nr: how many
 */
struct results {
	struct result *all;
	size_t nr;
};

void results_add(struct results *results, const char *name, const char *device,
		 enum outcome outcome, const char *reason, double seconds);
void results_free(struct results *results);

size_t results_count(const struct results *results, enum outcome outcome);

/* Whether the files that the options name can be written; a sentence on stderr if not. */
bool reports_open(void);

/* Write and close them. Returns false after a sentence on stderr. */
bool reports_write(const struct results *results);

/* For people, on stderr. */
void print_summary(const struct results *results, double seconds);

#endif /* REPORT_H */
