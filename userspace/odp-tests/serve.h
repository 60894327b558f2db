/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Copyright (c) 2026 The Twostep authors */
#ifndef SERVE_H
#define SERVE_H

/**
 * serve_tests() - be the other host of tests of two
 *
 * Each that asks gets a process; a line on stdout says how that ended. Until a signal comes.
 * Returns a status: 2 if it cannot, after a sentence on stderr.
 */
int serve_tests(void);

#endif /* SERVE_H */
