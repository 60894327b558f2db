// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
// Copyright (c) 2026 The Twostep authors
/*
 * umem-faults: whichever step of an operation fails, nothing is half done.
 *
 * Of each operation the first step fails that can fail, then the second, and so on until there
 * is none left: an allocation, small or of pages, or a seam of the mirror or of the DMA core.
 * The operation may then fail with ENOMEM, EFAULT, or EIO (of a sync), or do its work all the
 * same. Either way all pages are compared (see umem.h), and afterwards the device must get
 * every page, with its value.
 *
 * Needs root, the module odp_test, and a kernel with fault injection whose attributes let
 * allocations that sleep fail too. Output: KTAP. Status 1 if an operation failed the test.
 */
#define _GNU_SOURCE
#include "umem.h"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

/* In three blocks, with a piece of the first and of the last. */
#define PAGES 560
#define SKEW 500

/**
 * struct operation - what has steps that can fail
 * @name: of it
 * @prepare: makes the area; no step fails
 * @run: the operation
 * @finish: registers the area, if @run is what registers; no step fails
 * @huge: done without a failure, all of the area is in huge blocks
 */
struct operation {
	const char *name;
	void (*prepare)(struct area *area);
	int (*run)(struct area *area);
	void (*finish)(struct area *area);
	bool huge;
};

static int fail_nth = -1;

/* The NUMBERth step of this thread fails; 0: none. */
static void fail_step(unsigned int number)
{
	char text[16];
	int len = snprintf(text, sizeof(text), "%u", number);

	if (pwrite(fail_nth, text, len, 0) != len)
		wrong("no fault injection: %m");
}

/* How many steps were left, 0 if one failed. None fails from here on. */
static unsigned int steps_left(void)
{
	char text[16] = "";

	if (pread(fail_nth, text, sizeof(text) - 1, 0) <= 0)
		wrong("no fault injection: %m");
	fail_step(0);
	return strtoul(text, NULL, 10);
}

static void touch(struct area *area)
{
	for (size_t i = 0; i < area->pages; i++) {
		area->value[i] = i + 1;
		*cpu_value(area, i) = i + 1;
	}
}

static void map_small(struct area *area)
{
	*area = map_anonymous(PAGES, SKEW);
	madvise(area->mem, area->pages * PAGE, MADV_NOHUGEPAGE);
	touch(area);
}

static void map_registered(struct area *area)
{
	map_small(area);
	odp_register(area, ODP_TEST_WRITE);
}

/* Small pages come first, as they are read; then they are to be written. */
static void map_read(struct area *area)
{
	map_registered(area);
	odp_fault(area, 0, area->pages, false);
}

static void map_faulted(struct area *area)
{
	map_registered(area);
	odp_fault(area, 0, area->pages, true);
}

static void map_huge(struct area *area)
{
	*area = map_anonymous(1024, 0);
	madvise(area->mem, area->pages * PAGE, MADV_HUGEPAGE);
	touch(area);
	madvise(area->mem, area->pages * PAGE, MADV_COLLAPSE);
	odp_register(area, ODP_TEST_WRITE);
}

/* Small pages that are collapsed into a huge one while the device has them. */
static void map_collapsed(struct area *area)
{
	*area = map_anonymous(1024, 0);
	madvise(area->mem, area->pages * PAGE, MADV_NOHUGEPAGE);
	touch(area);
	odp_register(area, ODP_TEST_WRITE);
	odp_fault(area, 0, area->pages, true);
	madvise(area->mem, area->pages * PAGE, MADV_HUGEPAGE);
	madvise(area->mem, area->pages * PAGE, MADV_COLLAPSE);
}

static int do_register(struct area *area)
{
	return __odp_register(area, ODP_TEST_WRITE);
}

static int do_fault(struct area *area)
{
	return __odp_fault(area, 0, area->pages, true, ODP_TEST_FAULT, NULL);
}

static int do_prefetch(struct area *area)
{
	return __odp_fault(area, 0, area->pages, true, ODP_TEST_PREFETCH, NULL);
}

static int do_snapshot(struct area *area)
{
	return __odp_fault(area, 0, area->pages, true, ODP_TEST_SNAPSHOT, NULL);
}

/* Some pages in the middle: of the last block some are left. */
static int do_discard(struct area *area)
{
	const size_t first = 5, nr = 530;
	int ret = madvise(area_at(area, first), nr * PAGE, MADV_DONTNEED);

	if (!ret)
		memset(area->value + first, 0, nr * sizeof(*area->value));
	return ret ? -errno : 0;
}

/* A parent and a child in one go. */
static int do_family(struct area *area)
{
	struct area parent = {};
	int ret = __odp_register(&parent, ODP_TEST_IMPLICIT | ODP_TEST_WRITE);

	if (ret)
		return ret;
	area->region = (struct odp_test_region){
		.address = (uintptr_t)area->mem,
		.length = area->pages * PAGE,
		.flags = ODP_TEST_CHILD,
		.parent = parent.region.handle,
	};
	if (ioctl(odp_file, ODP_TEST_REGISTER, &area->region))
		ret = -errno;
	odp_release(&parent);
	return ret;
}

/* The operation may have failed: once more without a failure. */
static void register_again(struct area *area)
{
	odp_register(area, ODP_TEST_WRITE);
}

static const struct operation operations[] = {
	{ "register", map_small, do_register, register_again, false },
	{ "register_family", map_small, do_family, register_again, false },
	{ "fault", map_registered, do_fault, NULL, false },
	{ "fault_to_write", map_read, do_fault, NULL, false },
	{ "fault_huge", map_huge, do_fault, NULL, true },
	{ "fault_collapsed", map_collapsed, do_fault, NULL, true },
	{ "prefetch", map_registered, do_prefetch, NULL, false },
	{ "snapshot", map_registered, do_snapshot, NULL, false },
	{ "invalidate", map_faulted, do_discard, NULL, false },
};

/* All of it is as it must be, and works. */
static void verify(struct area *area)
{
	check(area);
	odp_fault(area, 0, area->pages, true);
	check(area);
	for (size_t i = 0; i < area->pages; i += 13)
		check_value(area, i);
}

/* Returns false if so many steps the operation does not have. */
static bool fail_once(const struct operation *operation, unsigned int step,
		      unsigned int *told)
{
	unsigned int left;
	struct area area;
	int ret;

	snprintf(doing, sizeof(doing), "%s, step %u failed", operation->name,
		 step);
	operation->prepare(&area);
	fail_step(step);
	ret = operation->run(&area);
	left = steps_left();
	if (left && ret)
		wrong("nothing failed: %s", strerror(-ret));
	if (left && operation->huge &&
	    count_words(&area, WORD_HUGE) != area.pages)
		wrong("the memory is not huge");
	if (ret && ret != -ENOMEM && ret != -EFAULT && ret != -EIO)
		wrong("%s", strerror(-ret));
	*told += !!ret;
	if (operation->finish) {
		if (!ret)
			odp_release(&area);
		operation->finish(&area);
	}
	verify(&area);
	odp_release(&area);
	unmap_area(&area);
	return !left;
}

static void sweep(const void *what)
{
	const struct operation *operation = what;
	uint64_t ranges = core_counter("reserves") - core_counter("frees");
	unsigned int step = 1, told = 0;

	fail_nth = open("/proc/thread-self/fail-nth", O_RDWR | O_CLOEXEC);
	while (fail_once(operation, step, &told))
		step++;
	if (step == 1)
		wrong("there was nothing that could fail");
	if (core_counter("reserves") - core_counter("frees") != ranges)
		wrong("IOVAs were left behind");
	printf("# %s: %u steps, %u of them told\n", operation->name, step - 1,
	       told);
}

int main(void)
{
	int failed = 0;

	printf("KTAP version 1\n1..%zu\n", COUNT(operations));
	for (size_t i = 0; i < COUNT(operations); i++)
		failed += run_case(i + 1, operations[i].name, sweep,
				   &operations[i]);
	return !!failed;
}
