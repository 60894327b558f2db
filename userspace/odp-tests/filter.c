// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
// Copyright (c) 2026 The Twostep authors

#include <fnmatch.h>
#include <string.h>

#include "filter.h"

#define LONGEST_PATTERN 256

/* The next of a list's members; moves @at behind it. False at the end. */
static bool next_member(const char **at, const char *separators,
			const char *end, char *member)
{
	size_t length;

	while (*at < end && strchr(separators, **at))
		++*at;
	if (*at >= end)
		return false;
	length = strcspn(*at, separators);
	if (length > (size_t)(end - *at))
		length = end - *at;
	if (length >= LONGEST_PATTERN)
		length = LONGEST_PATTERN - 1;
	memcpy(member, *at, length);
	member[length] = 0;
	*at += length;
	return true;
}

static bool any_matches(const char *at, const char *end, const char *name)
{
	char pattern[LONGEST_PATTERN];

	while (next_member(&at, ":", end, pattern))
		if (!fnmatch(pattern, name, 0))
			return true;
	return false;
}

bool filter_matches(const char *filter, const char *name)
{
	const char *end = filter + strlen(filter);
	const char *minus = strchr(filter, '-');

	if (!minus)
		minus = end;
	if (minus > filter && !any_matches(filter, minus, name))
		return false;
	return minus == end || !any_matches(minus + 1, end, name);
}

bool list_has(const char *list, const char *name)
{
	const char *end = list + strlen(list);
	char member[LONGEST_PATTERN];
	size_t length;

	while (next_member(&list, ",:", end, member)) {
		length = strlen(member);
		if (!fnmatch(member, name, 0) ||
		    (!strncmp(member, name, length) && name[length] == '.'))
			return true;
	}
	return false;
}
