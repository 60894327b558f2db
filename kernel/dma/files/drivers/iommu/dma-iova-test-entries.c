// SPDX-License-Identifier: GPL-2.0
/*
 * Copyright (c) 2026 The Twostep authors
 *
 * KUnit tests of the two-step DMA core: entries, what may be one and what happens to parts.
 */

#include <linux/dma-mapping.h>
#include <linux/limits.h>

#include "dma-iova-test.h"

/* Nothing that reaches out of the range, nor what cannot be an entry, is linked or counted. */
static void links_out_of_bounds_are_refused(struct kunit *test)
{
	struct ref *ref = ref_fresh(test, 16, SZ_2M);
	struct device *dev = ref->device->dev;
	struct run_list *list = kunit_kzalloc(test, sizeof(*list), GFP_KERNEL);
	struct test_pool *pool = pool_create(test);
	phys_addr_t phys = pool->areas[0].phys;
	const size_t page = PAGE_SIZE, size = 16 * PAGE_SIZE;
	const struct dma_iova_run wrong[] = {
		{ phys, size, page, PFN_TAG_READ },
		{ phys, size - page, 2 * page, PFN_TAG_READ },
		{ phys, 0, size + 1, PFN_TAG_READ },
		{ phys, 0, SIZE_MAX - page + 1, PFN_TAG_READ },
		{ phys, -page, page, PFN_TAG_READ },
		{ phys, -page, 2 * page, PFN_TAG_READ },
		{ phys + 4, 0, page, PFN_TAG_READ },
		{ phys, 4, page, PFN_TAG_READ },
		{ phys, 0, 0, PFN_TAG_READ },
		{ phys, 0, page, 0 },
	};
	unsigned int i;
	size_t done;

	KUNIT_ASSERT_NOT_NULL(test, list);
	for (i = 0; i < ARRAY_SIZE(wrong); i++) {
		run_list_reset(list);
		list->nr = 3;
		list->run[0] = (struct dma_iova_run){ phys, 8 * page, page,
						      PFN_TAG_READ };
		list->run[1] = wrong[i];
		list->run[2] = (struct dma_iova_run){ phys, 10 * page, page,
						      PFN_TAG_READ };
		KUNIT_EXPECT_EQ_MSG(test, -EINVAL,
				    dma_iova_link_runs(dev, &ref->state,
						       &list->iter, GFP_KERNEL),
				    "run %u", i);
		KUNIT_EXPECT_EQ_MSG(test, 1, list->iter.runs, "run %u", i);
		ref_link(ref, 8, 1, phys, PFN_TAG_READ);
		ref_holds(ref, "a refused run");
		dma_iova_unlink(dev, &ref->state, 8 * page, page, DMA_TO_DEVICE,
				0);
		ref->at[8] = (struct ref_granule){};
	}
	for (i = 0; i < 16; i++)
		ref->words[i] =
			pfn_tag(PHYS_PFN(phys), PFN_TAG_READ, PFN_KIND_REGULAR);
	for (i = 0; i < 4; i++) {
		static const struct {
			size_t offset;
			size_t nr;
		} wrong_words[] = { { 0, 17 },
				    { 15 * PAGE_SIZE, 2 },
				    { 16 * PAGE_SIZE, 1 },
				    { 4, 1 } };

		done = SIZE_MAX;
		KUNIT_EXPECT_EQ_MSG(test, -EINVAL,
				    dma_iova_link_pfns(dev, &ref->state,
						       wrong_words[i].offset,
						       ref->words,
						       wrong_words[i].nr, &done,
						       GFP_KERNEL),
				    "words %u", i);
		KUNIT_EXPECT_EQ(test, 0, done);
		KUNIT_EXPECT_FALSE(test, ref->words[0] & PFN_TAG_MAPPED);
		ref_holds(ref, "refused words");
	}
}

static void link_block(struct ref *ref, phys_addr_t phys)
{
	size_t done;
	unsigned int i;

	for (i = 0; i < 512; i++)
		ref->words[i] = pfn_tag(PHYS_PFN(phys) + i, PFN_TAG_ACCESS,
					PFN_KIND_REGULAR);
	KUNIT_ASSERT_EQ(ref->test, 0,
			dma_iova_link_pfns(ref->device->dev, &ref->state, 0,
					   ref->words, 512, &done, GFP_KERNEL));
	KUNIT_EXPECT_EQ(ref->test, 512, done);
	ref_link(ref, 0, 512, phys, PFN_TAG_ACCESS);
	ref_holds(ref, "a block");
}

/* In a congruent range an aligned block is one entry: its middle takes both sides along. */
static void a_congruent_block_is_one_entry(struct kunit *test)
{
	struct ref *ref = ref_fresh(test, 1024, SZ_2M);
	struct test_pool *pool = pool_create(test);
	struct run_list *list = kunit_kzalloc(test, sizeof(*list), GFP_KERNEL);
	struct dma_iova_hull hull;

	KUNIT_ASSERT_NOT_NULL(test, list);
	link_block(ref, pool->areas[0].phys);
	run_list_reset(list);
	list->nr = 1;
	list->run[0] = (struct dma_iova_run){ .offset = 100 * PAGE_SIZE,
					      .len = PAGE_SIZE };
	dma_iova_unlink_runs(ref->device->dev, &ref->state, &list->iter);
	KUNIT_EXPECT_EQ(test, 2, list->nr_widened);
	KUNIT_EXPECT_EQ(test, 0, list->widened[0].offset);
	KUNIT_EXPECT_EQ(test, 100 * PAGE_SIZE, list->widened[0].len);
	KUNIT_EXPECT_EQ(test, 101 * PAGE_SIZE, list->widened[1].offset);
	KUNIT_EXPECT_EQ(test, 411 * PAGE_SIZE, list->widened[1].len);
	memset(ref->at, 0, 512 * sizeof(*ref->at));
	ref_holds(ref, "unlinking the middle");

	link_block(ref, pool->areas[1].phys);
	hull = dma_iova_unlink_pfns(ref->device->dev, &ref->state,
				    511 * PAGE_SIZE, ref->words + 511, 1);
	KUNIT_EXPECT_EQ(test, 0, hull.start);
	KUNIT_EXPECT_EQ(test, SZ_2M, hull.end);
	memset(ref->at, 0, 512 * sizeof(*ref->at));
	ref_holds(ref, "unlinking the last word");
}

/* In a range reserved for granules it is 512 of them, wherever it happens to lie. */
static void a_block_of_granules_is_cut_exactly(struct kunit *test)
{
	struct ref *ref = ref_fresh(test, 1024, SZ_4K);
	struct test_pool *pool = pool_create(test);
	struct run_list *list = kunit_kzalloc(test, sizeof(*list), GFP_KERNEL);
	unsigned int first = 100, behind = 101;

	KUNIT_ASSERT_NOT_NULL(test, list);
	link_block(ref, pool->areas[0].phys);
	run_list_reset(list);
	list->nr = 1;
	list->run[0] = (struct dma_iova_run){ .offset = 100 * PAGE_SIZE,
					      .len = PAGE_SIZE };
	dma_iova_unlink_runs(ref->device->dev, &ref->state, &list->iter);
	ref_unlink(ref, &first, &behind);
	if (test_devices.tables)
		KUNIT_EXPECT_EQ(test, 0, list->nr_widened);
	ref_holds(ref, "unlinking the middle");
	KUNIT_EXPECT_EQ(test, ref_linked(ref), test_devices.tables ? 511 : 0);
}

/* 1 GiB and more of addresses that nobody accesses. */
static struct ref *reserve_gigabyte(struct kunit *test)
{
	struct ref *ref =
		ref_create(test, test_devices.alone, SZ_1G / PAGE_SIZE + 512);

	KUNIT_ASSERT_EQ(test, 0, ref_reserve(ref, 0, SZ_1G, SZ_1G + SZ_2M, 0));
	return ref;
}

static int link_gigabyte(struct ref *ref, struct run_list *list)
{
	run_list_reset(list);
	list->nr = 1;
	list->run[0] = (struct dma_iova_run){
		.phys = 64ULL * SZ_1G,
		.len = SZ_1G + SZ_2M,
		.access = PFN_TAG_ACCESS,
		.kind = PFN_KIND_P2P_BRIDGE,
	};
	return dma_iova_link_runs(ref->device->dev, &ref->state, &list->iter,
				  GFP_KERNEL);
}

/* An entry of the third level, where there is one. */
static void a_gigabyte_is_linked_and_unlinked(struct kunit *test)
{
	struct run_list *list = kunit_kzalloc(test, sizeof(*list), GFP_KERNEL);
	struct ref *ref = reserve_gigabyte(test);
	size_t large;

	KUNIT_ASSERT_NOT_NULL(test, list);
	KUNIT_ASSERT_EQ(test, 0, link_gigabyte(ref, list));
	ref_link(ref, 0, ref->nr, list->run[0].phys, PFN_TAG_ACCESS);
	ref_holds(ref, "a gigabyte");
	large = ref->at[0].behind * PAGE_SIZE;
	run_list_reset(list);
	list->nr = 1;
	list->run[0] = (struct dma_iova_run){ .offset = SZ_4K, .len = SZ_4K };
	dma_iova_unlink_runs(ref->device->dev, &ref->state, &list->iter);
	KUNIT_EXPECT_EQ(test, 2, list->nr_widened);
	KUNIT_EXPECT_EQ(test, large - 2 * SZ_4K, list->widened[1].len);
	memset(ref->at, 0, large / PAGE_SIZE * sizeof(*ref->at));
	ref_holds(ref, "unlinking a granule of a gigabyte");
	kunit_info(test, "the largest entry has %zx bytes", large);
}

/* What small entries leave behind is in nobody's way; they themselves are. */
static void a_gigabyte_goes_where_pages_were(struct kunit *test)
{
	struct run_list *list = kunit_kzalloc(test, sizeof(*list), GFP_KERNEL);
	struct test_pool *pool = pool_create(test);
	struct ref *ref = reserve_gigabyte(test);
	unsigned int first = 700, behind = 701;

	KUNIT_ASSERT_NOT_NULL(test, list);
	ref_link_page(ref, 700, pool->areas[0].phys, PFN_TAG_READ);
	KUNIT_EXPECT_EQ(test, -EEXIST, link_gigabyte(ref, list));
	KUNIT_EXPECT_EQ(test, 0, list->iter.runs);
	ref_holds(ref, "an overlap");
	dma_iova_unlink(ref->device->dev, &ref->state, ref_offset(ref, 700),
			PAGE_SIZE, DMA_TO_DEVICE, 0);
	ref_unlink(ref, &first, &behind);
	KUNIT_EXPECT_EQ(test, 0, link_gigabyte(ref, list));
	ref_link(ref, 0, ref->nr, list->run[0].phys, PFN_TAG_ACCESS);
	ref_holds(ref, "a gigabyte");
}

static void an_overlap_changes_nothing(struct kunit *test)
{
	struct ref *ref = ref_fresh(test, 64, SZ_4K);
	struct test_pool *pool = pool_create(test);
	struct device *dev = ref->device->dev;
	phys_addr_t phys = pool->areas[0].phys;
	u64 words[8];
	unsigned int i;
	size_t done;

	ref_link_page(ref, 20, phys, PFN_TAG_READ);
	/* Alone; in the middle of a run; behind single pages that stay linked. */
	KUNIT_EXPECT_EQ(test, -EEXIST,
			dma_iova_link(dev, &ref->state, phys, 20 * PAGE_SIZE,
				      PAGE_SIZE, DMA_TO_DEVICE, 0));
	ref_holds(ref, "an overlap");
	KUNIT_EXPECT_EQ(test, -EEXIST,
			dma_iova_link(dev, &ref->state, phys, 16 * PAGE_SIZE,
				      8 * PAGE_SIZE, DMA_TO_DEVICE, 0));
	ref_holds(ref, "an overlap in a run");
	for (i = 0; i < 8; i++)
		words[i] = pfn_tag(PHYS_PFN(phys) + 3 * i, PFN_TAG_WRITE,
				   PFN_KIND_REGULAR);
	KUNIT_EXPECT_EQ(test, -EEXIST,
			dma_iova_link_pfns(dev, &ref->state, 16 * PAGE_SIZE,
					   words, 8, &done, GFP_KERNEL));
	KUNIT_EXPECT_EQ(test, 4, done);
	for (i = 0; i < 8; i++)
		KUNIT_EXPECT_EQ(test, words[i],
				pfn_tag(PHYS_PFN(phys) + 3 * i,
					PFN_TAG_WRITE |
						(i < 4 ? PFN_TAG_MAPPED : 0),
					PFN_KIND_REGULAR));
	for (i = 0; i < 4; i++)
		ref_link(ref, 16 + i, 1, phys + 3 * i * PAGE_SIZE,
			 PFN_TAG_WRITE);
	ref_holds(ref, "an overlap behind others");
}

/* Bus and private words are passed over, in both forms; holes and MAPPED words, too. */
static void only_what_an_iova_reaches_is_linked(struct kunit *test)
{
	struct ref *ref = ref_fresh(test, 64, SZ_4K);
	struct test_pool *pool = pool_create(test);
	struct run_list *list = kunit_kzalloc(test, sizeof(*list), GFP_KERNEL);
	struct device *dev = ref->device->dev;
	phys_addr_t phys = pool->areas[0].phys;
	unsigned int i, kind;
	size_t done;

	KUNIT_ASSERT_NOT_NULL(test, list);
	run_list_reset(list);
	for (i = 0; i < 8; i++) {
		kind = i % 4;
		ref->words[i] = pfn_tag(PHYS_PFN(phys) + i, PFN_TAG_READ, kind);
		list->run[i] = (struct dma_iova_run){ phys + i * PAGE_SIZE,
						      (32 + i) * PAGE_SIZE,
						      PAGE_SIZE, PFN_TAG_READ,
						      kind };
		if (kind != PFN_KIND_REGULAR && kind != PFN_KIND_P2P_BRIDGE)
			continue;
		ref_link(ref, i, 1, phys + i * PAGE_SIZE, PFN_TAG_READ);
		ref_link(ref, 32 + i, 1, phys + i * PAGE_SIZE, PFN_TAG_READ);
	}
	list->nr = 8;
	KUNIT_EXPECT_EQ(test, 0,
			dma_iova_link_pfns(dev, &ref->state, 0, ref->words, 16,
					   &done, GFP_KERNEL));
	KUNIT_EXPECT_EQ(test, 16, done);
	KUNIT_EXPECT_EQ(test, 0,
			dma_iova_link_runs(dev, &ref->state, &list->iter,
					   GFP_KERNEL));
	KUNIT_EXPECT_EQ(test, 8, list->iter.runs);
	for (i = 0; i < 16; i++)
		KUNIT_EXPECT_EQ(test, !!(ref->words[i] & PFN_TAG_MAPPED),
				!!ref->at[i].phys);
	ref_holds(ref, "all kinds");
	/* MAPPED words are passed over by the next call, whatever is between them. */
	ref->words[9] =
		pfn_tag(PHYS_PFN(phys), PFN_TAG_WRITE, PFN_KIND_REGULAR);
	KUNIT_EXPECT_EQ(test, 0,
			dma_iova_link_pfns(dev, &ref->state, 0, ref->words, 16,
					   &done, GFP_KERNEL));
	ref_link(ref, 9, 1, phys, PFN_TAG_WRITE);
	ref_holds(ref, "words in between");
}

static struct kunit_case dma_iova_entries_cases[] = {
	KUNIT_CASE(links_out_of_bounds_are_refused),
	KUNIT_CASE(a_congruent_block_is_one_entry),
	KUNIT_CASE(a_block_of_granules_is_cut_exactly),
	KUNIT_CASE(a_gigabyte_is_linked_and_unlinked),
	KUNIT_CASE(a_gigabyte_goes_where_pages_were),
	KUNIT_CASE(an_overlap_changes_nothing),
	KUNIT_CASE(only_what_an_iova_reaches_is_linked),
	{}
};

static struct kunit_suite dma_iova_entries_suite = {
	.name = "dma_iova_entries",
	.suite_init = test_devices_get,
	.suite_exit = test_devices_put,
	.init = test_needs_alone,
	.test_cases = dma_iova_entries_cases,
};

kunit_test_suite(dma_iova_entries_suite);
