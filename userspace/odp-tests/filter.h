/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Copyright (c) 2026 The Twostep authors */
/*
 * Names of tests, as googletest chooses them.
 *
 *	filter   = [patterns] ["-" patterns]
 *	patterns = pattern { ":" pattern }
 *
 * A pattern has "*" and "?" and matches a whole name. A name is chosen if a pattern before the
 * "-" matches, or there is none, and none behind it does.
 */
#ifndef FILTER_H
#define FILTER_H

#include <stdbool.h>

bool filter_matches(const char *filter, const char *name);

/*
 * Whether a list, with "," or ":" between its members, has @name: a member is a pattern, or
 * the beginning of a name up to one of its dots.
 */
bool list_has(const char *list, const char *name);

#endif /* FILTER_H */
