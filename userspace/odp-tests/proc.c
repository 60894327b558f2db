// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
// Copyright (c) 2026 The Twostep authors

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "proc.h"

bool proc_number(const char *path, uint64_t *value)
{
	FILE *file = fopen(path, "re");
	bool found = false;

	if (file) {
		found = fscanf(file, "%" SCNu64, value) == 1;
		fclose(file);
	}
	return found;
}

bool proc_named(const char *path, const char *name, uint64_t *value)
{
	FILE *file = fopen(path, "re");
	size_t length = strlen(name);
	bool found = false;
	char line[512];

	while (file && !found && fgets(line, sizeof(line), file))
		found = !strncmp(line, name, length) &&
			sscanf(line + length, " %" SCNu64, value) == 1;
	if (file)
		fclose(file);
	return found;
}

bool smaps_mapping(const char *line, uintptr_t *from, uintptr_t *to)
{
	return sscanf(line, "%" SCNxPTR "-%" SCNxPTR " ", from, to) == 2;
}

size_t smaps_kib(const void *bytes, const char *property)
{
	FILE *smaps = fopen("/proc/self/smaps", "re");
	size_t length = strlen(property), kib = 0, found;
	uintptr_t from, to;
	bool ours = false;
	char line[512];

	while (smaps && fgets(line, sizeof(line), smaps)) {
		if (smaps_mapping(line, &from, &to))
			ours = (uintptr_t)bytes >= from &&
			       (uintptr_t)bytes < to;
		else if (ours && !strncmp(line, property, length) &&
			 sscanf(line + length, ": %zu", &found) == 1)
			kib += found;
	}
	if (smaps)
		fclose(smaps);
	return kib;
}
