// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
// Copyright (c) 2026 The Twostep authors
/*
 * Huge pages: transparent ones, and those of hugetlbfs with and without IBV_ACCESS_HUGETLB. The
 * device has every byte, and a huge page costs a fault and not five hundred.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "peer.h"
#include "place.h"
#include "proc.h"
#include "suite.h"

#define HUGE_PAGE (2UL << 20)
#define HUGE_PAGES 4
#define SIZE (HUGE_PAGES * HUGE_PAGE)
/* Faults for a huge page: one, and one again for the right to write. */
#define MOST_FAULTS 2

/* Of linux/mman.h. */
#ifndef MAP_HUGE_2MB
#define MAP_HUGE_2MB (21 << 26)
#endif

static uint8_t *map_transparent(void)
{
	uint8_t *bytes = mmap(NULL, SIZE + HUGE_PAGE, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (bytes == MAP_FAILED)
		wrong("no memory: %s", strerror(errno));
	bytes += -(uintptr_t)bytes % HUGE_PAGE;
	if (madvise(bytes, SIZE, MADV_HUGEPAGE))
		skip(KERNEL, "it has no transparent huge pages");
	memset(bytes, 1, SIZE);
	if (smaps_kib(bytes, "AnonHugePages") != SIZE / 1024)
		skip(MACHINE, "no %d transparent huge pages are free",
		     HUGE_PAGES);
	return bytes;
}

static uint8_t *map_hugetlb(void)
{
	void *bytes =
		mmap(NULL, SIZE, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_HUGE_2MB,
		     -1, 0);

	if (bytes == MAP_FAILED)
		skip(MACHINE, "no %d pages of 2 MiB: %s (vm.nr_hugepages)",
		     HUGE_PAGES, strerror(errno));
	return bytes;
}

static void is_whole(uint8_t *(*map)(void), int access)
{
	uint64_t before, after;
	struct region region;
	struct peer peer;
	bool counted;

	peer_open(&peer, SIZE);
	region_over(&region, &peer.fabric, map(), SIZE,
		    ALL_ACCESS | IBV_ACCESS_ON_DEMAND | access);
	counted = hw_counter("odp_faults", &before);
	peer_writes(&peer, &region, 0, SIZE);
	if (counted && hw_counter("odp_faults", &after)) {
		after -= before;
		printf("# %" PRIu64 " faults for %d huge pages\n", after,
		       HUGE_PAGES);
		if (!after)
			wrong("no page was faulted in");
		if (after > MOST_FAULTS * HUGE_PAGES)
			wrong("%" PRIu64 " faults for %d huge pages", after,
			      HUGE_PAGES);
	}
	peer_reads(&peer, &region, 0, SIZE);
	for (int i = 0; i < 8; i++)
		peer_writes(&peer, &region, below(SIZE / 2),
			    1 + below(SIZE / 2));
	region_destroy(&region);
	peer_close(&peer);
}

static void transparent(const void *what)
{
	(void)what;
	is_whole(map_transparent, 0);
}

static void hugetlb(const void *what)
{
	(void)what;
	is_whole(map_hugetlb, 0);
}

static void hugetlb_with_access_flag(const void *what)
{
	(void)what;
	is_whole(map_hugetlb, IBV_ACCESS_HUGETLB);
}

/* A fault brings in what its message goes on with: so many at a time as a huge page has. */
static void small_pages_come_together(const void *what)
{
	uint64_t before, after;
	struct region region;
	struct peer peer;

	(void)what;
	peer_open(&peer, SIZE);
	region_make(&region, &peer.fabric, SIZE,
		    ALL_ACCESS | IBV_ACCESS_ON_DEMAND);
	/* A kernel without huge pages has small ones anyway. */
	madvise(region.bytes, SIZE, MADV_NOHUGEPAGE);
	if (!hw_counter("odp_faults", &before))
		skip(place.software ? KERNEL : DEVICE, "no counter of faults");
	region_prepare(&region, COLD);
	peer_writes(&peer, &region, 0, SIZE);
	hw_counter("odp_faults", &after);
	after -= before;
	printf("# %" PRIu64 " faults for %lu pages\n", after, SIZE / PAGE);
	/* One more for the block that the region begins or ends in. */
	if (after > MOST_FAULTS * (HUGE_PAGES + 1))
		wrong("%" PRIu64 " faults for %lu pages", after, SIZE / PAGE);
	region_destroy(&region);
	peer_close(&peer);
}

/* Small pages where there was a huge one, and the other way: other memory, the same bytes. */
static void falls_apart(const void *what)
{
	struct region region;
	struct peer peer;

	(void)what;
	peer_open(&peer, SIZE);
	region_over(&region, &peer.fabric, map_transparent(), SIZE,
		    ALL_ACCESS | IBV_ACCESS_ON_DEMAND);
	peer_writes(&peer, &region, 0, SIZE);
	for (size_t i = 0; i < HUGE_PAGES; i++) {
		size_t at = i * HUGE_PAGE + below(HUGE_PAGE / PAGE) * PAGE;

		/* A page that goes takes the huge one apart. */
		if (madvise(region.bytes + at, PAGE, MADV_DONTNEED))
			wrong("madvise: %s", strerror(errno));
		memset(region.want + at, 0, PAGE);
		peer_reads(&peer, &region, i * HUGE_PAGE, HUGE_PAGE);
		peer_writes(&peer, &region, i * HUGE_PAGE + 3, HUGE_PAGE - 6);
	}
	peer_writes(&peer, &region, 0, SIZE);
	region_destroy(&region);
	peer_close(&peer);
}

static const struct test tests[] = {
#define TEST(what) { "huge." #what, what }
	TEST(transparent),
	TEST(hugetlb),
	TEST(hugetlb_with_access_flag),
	TEST(falls_apart),
	TEST(small_pages_come_together),
};

TESTS(tests)
