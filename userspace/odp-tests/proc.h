/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Copyright (c) 2026 The Twostep authors */
/*
 * Reading what the kernel says in /proc and /sys.
 *
 * All that parses numbers out of text is in proc.c, which asks for no GNU extension: with them
 * the C library of Debian 13 gives scanf() a new name, which Debian 12 does not have.
 */
#ifndef PROC_H
#define PROC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The number that a file begins with. Returns false if there is no such file, or no number. */
bool proc_number(const char *path, uint64_t *value);

/* The number behind a name at the beginning of a line of a file, as in /proc/vmstat. */
bool proc_named(const char *path, const char *name, uint64_t *value);

/* Whether a line of smaps begins a mapping, and which. */
bool smaps_mapping(const char *line, uintptr_t *from, uintptr_t *to);

/* KiB of the mapping of this process with an address, by the name of their property in smaps. */
size_t smaps_kib(const void *bytes, const char *property);

#endif /* PROC_H */
