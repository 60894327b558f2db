/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Copyright (c) 2026 The Twostep authors
 *
 * How a measuring module is driven: a command is a line written to NAME/run in debugfs, the
 * write fails as the command does, and what it found is then in NAME/results.
 */
#ifndef BENCH_COMMAND_H
#define BENCH_COMMAND_H

#include <linux/compiler_attributes.h>
#include <linux/pci.h>

#define BENCH_WORDS 3

/* One command at a time: its words, at least one. */
typedef int bench_command_fn(char **words, unsigned int nr);

void bench_commands_add(const char *name, bench_command_fn *command);
void bench_commands_remove(void);

/* A line, or a part of one, of the results of the command that runs. */
__printf(1, 2) void bench_say(const char *format, ...);

struct pci_dev *bench_edu_get(unsigned int number);

#endif
