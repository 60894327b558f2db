/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Copyright (c) 2026 The Twostep authors */
/*
 * What the pages of a region belong to, and what happens to them.
 */
#ifndef BACKING_H
#define BACKING_H

#include <stdbool.h>
#include <stdint.h>

#include "region.h"

/**
 * enum backing - whose pages a region has
 * @ANONYMOUS: the process's own, as region_make() leaves them
 * @MEMFD: those of a file without a name, mapped shared
 * @TMPFS: those of a file in /dev/shm, mapped shared
 */
enum backing { ANONYMOUS, MEMFD, TMPFS };

/*
 * Give an on-demand paging region other pages, at the same addresses and with the same bytes.
 * Its registration stays. Returns the file, or -1 if there is none.
 */
int region_back(struct region *region, enum backing backing);

/* Pages taken from the device so far; 0 where it does not count them. */
uint64_t pages_taken(void);

/* Whether pages were taken since @before. True where the device does not count them. */
bool was_taken(uint64_t before);

/* Say how many pages were taken since @before; none is wrong, where the device counts. */
void want_taken(uint64_t before);

/* A counter of /proc/vmstat. */
uint64_t vm_event(const char *name);

#endif /* BACKING_H */
