// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
// Copyright (c) 2026 The Twostep authors

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "backing.h"
#include "proc.h"
#include "suite.h"

#define COUNTER "odp_page_invalidations"

int region_back(struct region *region, enum backing backing)
{
	void *bytes;
	int file;

	if (backing == ANONYMOUS)
		return -1;
	if (backing == MEMFD)
		file = memfd_create("region", MFD_CLOEXEC);
	else
		file = open("/dev/shm", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (file < 0 || ftruncate(file, region->size))
		wrong("no file of %zu bytes: %s", region->size,
		      strerror(errno));
	bytes = mmap(region->bytes, region->size, PROT_READ | PROT_WRITE,
		     MAP_SHARED | MAP_FIXED, file, 0);
	if (bytes != region->bytes)
		wrong("the file is not mapped: %s", strerror(errno));
	memcpy(region->bytes, region->want, region->size);
	return file;
}

uint64_t pages_taken(void)
{
	uint64_t pages;

	return hw_counter(COUNTER, &pages) ? pages : 0;
}

bool was_taken(uint64_t before)
{
	uint64_t pages;

	return !hw_counter(COUNTER, &pages) || pages > before;
}

void want_taken(uint64_t before)
{
	uint64_t pages;

	if (!hw_counter(COUNTER, &pages)) {
		printf("# the device does not count pages that are taken\n");
		return;
	}
	printf("# %" PRIu64 " pages were taken from the device\n",
	       pages - before);
	if (pages == before)
		wrong("nothing was taken from the device");
}

uint64_t vm_event(const char *name)
{
	uint64_t value;

	if (!proc_named("/proc/vmstat", name, &value))
		skip(KERNEL, "it does not count %s", name);
	return value;
}
