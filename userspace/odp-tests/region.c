// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
// Copyright (c) 2026 The Twostep authors

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "place.h"
#include "proc.h"
#include "region.h"
#include "suite.h"

/* Random bytes to fill from, long enough that two fillings hardly ever begin alike. */
#define NOISE (4UL << 20)

static uint8_t *noise;

static const uint8_t *some_noise(size_t length)
{
	if (!noise) {
		noise = malloc(NOISE);
		for (size_t i = 0; i < NOISE; i += 8)
			memcpy(noise + i, &(uint64_t){ draw() }, 8);
	}
	if (length > NOISE)
		wrong("no noise of %zu bytes", length);
	return noise + below(NOISE - length + 1);
}

static void remember(const struct region *region)
{
	size_t at = board->nr_regions++ % COUNT(board->regions);

	board->regions[at].bytes = region->bytes;
	board->regions[at].size = region->size;
}

void region_over(struct region *region, const struct fabric *fabric,
		 void *bytes, size_t size, int access)
{
	*region = (struct region){
		.bytes = bytes,
		.size = size,
		.want = malloc(size),
		.iova = (uintptr_t)bytes,
		.odp = access & IBV_ACCESS_ON_DEMAND,
	};
	if (!region->want)
		wrong("no memory for %zu bytes", size);
	region_fill(region, 0, size);
	remember(region);
	region->mr = ibv_reg_mr(fabric->pd, bytes, size, access);
	if (!region->mr)
		wrong("%zu bytes are not registered with access %#x: %s", size,
		      access, strerror(errno));
}

void region_make(struct region *region, const struct fabric *fabric,
		 size_t size, int access)
{
	void *bytes = mmap(NULL, size, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (bytes == MAP_FAILED)
		wrong("no memory for %zu bytes", size);
	region_over(region, fabric, bytes, size, access);
}

void region_destroy(struct region *region)
{
	int ret = ibv_dereg_mr(region->mr);

	if (ret)
		wrong("not deregistered: %s", strerror(ret));
	munmap(region->bytes, region->size);
	free(region->want);
}

void region_fill(struct region *region, size_t at, size_t length)
{
	size_t part;

	for (; length; at += part, length -= part) {
		part = length < NOISE / 2 ? length : NOISE / 2;
		memcpy(region->want + at, some_noise(part), part);
		memcpy(region->bytes + at, region->want + at, part);
	}
}

void region_copied(struct region *to, size_t to_at, const struct region *from,
		   size_t from_at, size_t length)
{
	memcpy(to->want + to_at, from->want + from_at, length);
}

/* A change of rights takes pages from devices, and leaves them with the process. */
static void take(struct region *region, size_t at, size_t length)
{
	if (mprotect(region->bytes + at, length, PROT_NONE) ||
	    mprotect(region->bytes + at, length, PROT_READ | PROT_WRITE))
		wrong("mprotect: %s", strerror(errno));
}

void region_prepare(struct region *region, enum presence presence)
{
	switch (presence) {
	case WARM:
		break;
	case COLD:
		take(region, 0, region->size);
		break;
	case HALF:
		for (size_t at = 0; at < region->size; at += 2 * PAGE)
			take(region, at, PAGE);
		break;
	case EMPTY:
		if (madvise(region->bytes, region->size, MADV_DONTNEED))
			wrong("madvise: %s", strerror(errno));
		memset(region->want, 0, region->size);
		break;
	}
}

void region_check(const struct region *region)
{
	size_t first = 0, nr = 0;

	if (!memcmp(region->bytes, region->want, region->size))
		return;
	for (size_t i = region->size; i-- > 0;)
		if (region->bytes[i] != region->want[i]) {
			first = i;
			nr++;
		}
	wrong("%zu bytes of %zu are wrong, the first at %zu: %#x instead of %#x",
	      nr, region->size, first, region->bytes[first],
	      region->want[first]);
}

struct ibv_sge region_sge(const struct region *region, size_t at, size_t length)
{
	return (struct ibv_sge){ region->iova + at, length, region->mr->lkey };
}

static void counter_path(char *path, size_t size, const char *name)
{
	snprintf(path, size, "/sys/class/infiniband/%s/ports/%u/hw_counters/%s",
		 place.device, place.port, name);
}

/* Until the kernel's clock has moved by one tick. */
static void next_tick(void)
{
	struct timespec begin, now;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &begin);
	do {
		sched_yield();
		clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	} while (now.tv_sec == begin.tv_sec && now.tv_nsec == begin.tv_nsec);
}

bool hw_counter(const char *name, uint64_t *value)
{
	static bool short_life;
	char path[256];
	FILE *file;

	/* The kernel shows what it read before, for a life of 10 ms or at least the same tick. */
	if (!short_life) {
		counter_path(path, sizeof(path), "lifespan");
		file = fopen(path, "we");
		if (file) {
			short_life = fputs("0", file) > 0;
			if (fclose(file) || !short_life)
				wrong("the counters have a life: %s",
				      strerror(errno));
		}
	}
	/* Only root may shorten it. */
	if (!short_life)
		nanosleep(&(struct timespec){ .tv_nsec = 12000000 }, NULL);
	next_tick();
	counter_path(path, sizeof(path), name);
	return proc_number(path, value);
}
