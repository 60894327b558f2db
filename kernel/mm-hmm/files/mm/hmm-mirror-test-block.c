// SPDX-License-Identifier: GPL-2.0
/*
 * Copyright (c) 2026 The Twostep authors
 *
 * KUnit tests of the HMM mirror: the life of a block, with huge pages of the kernel, and
 * the runs that cross blocks.
 */

#include <linux/mm.h>
#include <linux/mman.h>

#include "hmm-mirror-internal.h"
#include "hmm-mirror-test.h"

#define TAG (9ULL << 52)

static struct mock *start(struct kunit *test, unsigned int blocks, bool linked)
{
	struct mock *mock = mock_create(test);

	if (!linked)
		mock->ops = (struct hmm_mirror_ops){};
	mock_start(mock, process_map_huge(test, blocks), blocks * PAGES, RW);
	return mock;
}

static bool is_huge(struct mock *mock, unsigned int i)
{
	return mock_word(mock, i) & PFN_TAG_HUGE;
}

static unsigned long clear(struct mock *mock, unsigned int i,
			   unsigned int pages)
{
	unsigned long gone;

	down_write(&mock->mirror.lock);
	gone = hmm_mirror_clear(&mock->mirror, address(mock, i),
				address(mock, i + pages));
	up_write(&mock->mirror.lock);
	return gone;
}

static long tag(struct mock *mock, unsigned int i, unsigned int pages, u64 user)
{
	return hmm_mirror_tag(&mock->mirror, address(mock, i),
			      address(mock, i + pages), PFN_TAG_USER, user);
}

static void a_huge_page_is_one_word_and_one_link(struct kunit *test)
{
	struct mock *mock = start(test, 3, true);

	KUNIT_EXPECT_EQ(test, 0,
			mock_fault(mock, 0, 2 * PAGES, RW, HMM_MIRROR_FAULT));
	KUNIT_EXPECT_EQ(test, mock->fault.present, 2 * PAGES);
	KUNIT_EXPECT_EQ(test, mock->links, 2);
	KUNIT_EXPECT_EQ(test, hmm_mirror_bytes(&mock->mirror), 64);
	/* Any page of it brings in all, and counts as what was asked. */
	KUNIT_EXPECT_EQ(test, 0,
			mock_fault(mock, 2 * PAGES + 77, 3, RO,
				   HMM_MIRROR_FAULT));
	KUNIT_EXPECT_EQ(test, mock->fault.present, 3);
	KUNIT_EXPECT_EQ(test, mock_mapped(mock), 3 * PAGES);
	KUNIT_EXPECT_EQ(test, mock->links, 3);
	mock_holds(mock);
	mock_stop(mock);
}

static void a_huge_page_goes_as_a_whole(struct kunit *test)
{
	struct mock *mock = start(test, 3, true);

	KUNIT_EXPECT_EQ(test, 0,
			mock_fault(mock, 0, 3 * PAGES, RW, HMM_MIRROR_FAULT));
	mock_cache(mock);
	KUNIT_EXPECT_EQ(test, clear(mock, PAGES + 5, 1), PAGES);
	KUNIT_EXPECT_EQ(test, mock->zaps, 1);
	KUNIT_EXPECT_EQ(test, mock->unlinks, 1);
	KUNIT_EXPECT_EQ(test, mock_mapped(mock), 2 * PAGES);
	mock_holds(mock);
	/* Both ends of a range lie in huge pages. */
	KUNIT_EXPECT_EQ(test, 0,
			mock_fault(mock, 0, 3 * PAGES, RW, HMM_MIRROR_FAULT));
	KUNIT_EXPECT_EQ(test, clear(mock, PAGES - 1, PAGES + 2), 3 * PAGES);
	KUNIT_EXPECT_EQ(test, mock->unlinks, 2);
	KUNIT_EXPECT_EQ(test, hmm_mirror_bytes(&mock->mirror), 0);
	mock_holds(mock);

	/* The kernel cuts its huge page, and some of it goes. */
	KUNIT_EXPECT_EQ(test, 0,
			mock_fault(mock, 0, 3 * PAGES, RW, HMM_MIRROR_FAULT));
	process_advise(test, address(mock, 700), 1, MADV_DONTNEED);
	KUNIT_EXPECT_EQ(test, mock_word(mock, PAGES), 0);
	KUNIT_EXPECT_TRUE(test, is_huge(mock, 0));
	KUNIT_EXPECT_EQ(test, 0,
			mock_fault(mock, PAGES, PAGES, RW, HMM_MIRROR_FAULT));
	KUNIT_EXPECT_FALSE(test, is_huge(mock, PAGES));
	mock_holds(mock);
	mock_stop(mock);
}

/* Of a huge page at the mirror's border only some pages are mirrored. */
static void borders_have_small_pages(struct kunit *test)
{
	struct mock *mock = mock_create(test);
	unsigned long addr = process_map_huge(test, 3);

	mock_start(mock, addr + PAGE_SIZE, 3 * PAGES - 2, RW);
	KUNIT_EXPECT_EQ(test, 0,
			mock_fault(mock, 0, 3 * PAGES - 2, RW,
				   HMM_MIRROR_FAULT));
	KUNIT_EXPECT_EQ(test, mock->fault.present, 3 * PAGES - 2);
	KUNIT_EXPECT_FALSE(test, is_huge(mock, 0));
	KUNIT_EXPECT_TRUE(test, is_huge(mock, PAGES - 1));
	KUNIT_EXPECT_FALSE(test, is_huge(mock, 3 * PAGES - 3));
	KUNIT_EXPECT_EQ(test, mock->links, 3);
	mock_holds(mock);
	/* An invalidation of the huge page at the border: its pages in the mirror go. */
	process_advise(test, addr, 1, MADV_DONTNEED);
	KUNIT_EXPECT_EQ(test, mock_mapped(mock), 2 * PAGES - 1);
	mock_holds(mock);
	mock_stop(mock);
}

static void a_huge_page_for_reading_becomes_writable(struct kunit *test)
{
	struct mock *mock = start(test, 1, true);

	KUNIT_EXPECT_EQ(test, 0, mock_fault(mock, 3, 1, RO, HMM_MIRROR_FAULT));
	KUNIT_EXPECT_EQ(test, mock_word(mock, 99) & RW, RO);
	mock_cache(mock);
	KUNIT_EXPECT_EQ(test, 0, mock_fault(mock, 99, 1, RW, HMM_MIRROR_FAULT));
	KUNIT_EXPECT_TRUE(test, is_huge(mock, 3));
	KUNIT_EXPECT_EQ(test, mock_word(mock, 3) & RW, RW);
	KUNIT_EXPECT_EQ(test, mock->unlinks, 1);
	KUNIT_EXPECT_EQ(test, mock->links, 2);
	mock_holds(mock);
	mock_stop(mock);
}

/* Tags split the block, not what is linked: taking a page out takes the entry out. */
static void tags_split_the_block_and_not_its_entry(struct kunit *test)
{
	struct mock *mock = start(test, 1, true);

	KUNIT_EXPECT_EQ(test, 0,
			mock_fault(mock, 0, PAGES, RW, HMM_MIRROR_FAULT));
	/* Nothing to do for a tag that is none. */
	KUNIT_EXPECT_EQ(test, 4, tag(mock, 7, 4, 0));
	KUNIT_EXPECT_TRUE(test, is_huge(mock, 7));
	KUNIT_EXPECT_EQ(test, 4, tag(mock, 7, 4, TAG));
	KUNIT_EXPECT_FALSE(test, is_huge(mock, 7));
	KUNIT_EXPECT_LE(test, hmm_mirror_bytes(&mock->mirror), 4300);
	KUNIT_EXPECT_EQ(test, mock->unlinks, 0);
	mock_holds(mock);
	mock_cache(mock);
	KUNIT_EXPECT_EQ(test, clear(mock, 9, 1), 1);
	KUNIT_EXPECT_EQ(test, mock->unlinks, 1);
	KUNIT_EXPECT_EQ(test, mock_mapped(mock), 0);
	KUNIT_EXPECT_EQ(test, mock_word(mock, 9), 0);
	KUNIT_EXPECT_EQ(test, mock_word(mock, 8) & PFN_TAG_USER, TAG);
	mock_holds(mock);
	/* Linked again, all of it, and the new page has no tag. */
	KUNIT_EXPECT_EQ(test, 0,
			mock_fault(mock, 0, PAGES, RW, HMM_MIRROR_FAULT));
	KUNIT_EXPECT_EQ(test, mock_word(mock, 8) & PFN_TAG_USER, TAG);
	KUNIT_EXPECT_EQ(test, mock_word(mock, 9) & PFN_TAG_USER, 0);
	mock_holds(mock);
	mock_stop(mock);
}

/* A split block over which the process still has a huge page becomes one word again. */
static void a_split_block_becomes_huge_again(struct kunit *test)
{
	struct mock *mock = start(test, 1, true);

	KUNIT_EXPECT_EQ(test, 0,
			mock_fault(mock, 0, PAGES, RO, HMM_MIRROR_FAULT));
	tag(mock, 0, 1, TAG);
	tag(mock, 0, 1, 0);
	/* All there is asked for: it stays as it is. */
	KUNIT_EXPECT_EQ(test, 0,
			mock_fault(mock, 0, PAGES, RO, HMM_MIRROR_FAULT));
	KUNIT_EXPECT_FALSE(test, is_huge(mock, 0));
	KUNIT_EXPECT_EQ(test, mock->links, 1);
	KUNIT_EXPECT_EQ(test, 0, mock_fault(mock, 5, 1, RW, HMM_MIRROR_FAULT));
	KUNIT_EXPECT_TRUE(test, is_huge(mock, 0));
	KUNIT_EXPECT_EQ(test, mock_word(mock, 0) & RW, RW);
	KUNIT_EXPECT_EQ(test, mock->links, 2);
	KUNIT_EXPECT_EQ(test, hmm_mirror_bytes(&mock->mirror), 64);
	mock_holds(mock);
	mock_stop(mock);
}

/* Not if a word would lose something: a right that the huge page did not get, a tag. */
static void a_richer_word_keeps_the_block_split(struct kunit *test)
{
	struct mock *mock = start(test, 1, true);

	KUNIT_EXPECT_EQ(test, 0,
			mock_fault(mock, 0, PAGES, RW, HMM_MIRROR_FAULT));
	tag(mock, 0, 1, TAG);
	tag(mock, 0, 1, 0);
	clear(mock, 3, 1);
	KUNIT_EXPECT_EQ(test, 0, mock_fault(mock, 3, 1, RO, HMM_MIRROR_FAULT));
	KUNIT_EXPECT_FALSE(test, is_huge(mock, 3));
	KUNIT_EXPECT_EQ(test, mock_word(mock, 2) & RW, RW);
	mock_holds(mock);
	tag(mock, 0, 1, TAG);
	clear(mock, 3, 1);
	KUNIT_EXPECT_EQ(test, 0, mock_fault(mock, 3, 1, RW, HMM_MIRROR_FAULT));
	KUNIT_EXPECT_FALSE(test, is_huge(mock, 3));
	KUNIT_EXPECT_EQ(test, mock_word(mock, 0) & TAG, TAG);
	mock_holds(mock);
	mock_stop(mock);
}

static void a_huge_page_written_by_software_stays_dirty(struct kunit *test)
{
	struct mock *mock = start(test, 1, false);
	u64 word;
	struct page *page;

	KUNIT_EXPECT_EQ(test, 0,
			mock_fault(mock, 0, PAGES, RW, HMM_MIRROR_FAULT));
	down_read(&mock->mirror.lock);
	hmm_mirror_written(&mock->mirror, address(mock, 100), 1);
	up_read(&mock->mirror.lock);
	word = mock_word(mock, 0);
	KUNIT_EXPECT_NE(test, word & PFN_TAG_DIRTY, 0);
	page = pfn_to_page(word & PFN_TAG_PFN);
	/* Split, a page out, and one word again. */
	tag(mock, 7, 1, TAG);
	tag(mock, 7, 1, 0);
	clear(mock, 7, 1);
	folio_clear_dirty(page_folio(page));
	KUNIT_EXPECT_EQ(test, 0, mock_fault(mock, 7, 1, RW, HMM_MIRROR_FAULT));
	KUNIT_EXPECT_TRUE(test, is_huge(mock, 7));
	KUNIT_EXPECT_NE(test, mock_word(mock, 0) & PFN_TAG_DIRTY, 0);
	KUNIT_EXPECT_FALSE(test, PageDirty(page));
	clear(mock, 0, PAGES);
	KUNIT_EXPECT_TRUE(test, PageDirty(page));
	mock_stop(mock);
}

/* Small pages become a huge one: others, so that their words have gone. */
static void collapsing_replaces_the_pages(struct kunit *test)
{
	struct mock *mock = mock_create(test);
	unsigned long addr = process_map(test, PAGES, MAP_PRIVATE);

	mock_start(mock, addr, PAGES, RW);
	process_touch(test, addr, PAGES);
	KUNIT_EXPECT_EQ(test, 0,
			mock_fault(mock, 0, PAGES, RW, HMM_MIRROR_FAULT));
	KUNIT_EXPECT_FALSE(test, is_huge(mock, 0));
	mock_cache(mock);
	process_advise(test, addr, PAGES, MADV_COLLAPSE);
	KUNIT_EXPECT_EQ(test, mock_mapped(mock), 0);
	mock_holds(mock);
	KUNIT_EXPECT_EQ(test, 0, mock_fault(mock, 9, 1, RW, HMM_MIRROR_FAULT));
	KUNIT_EXPECT_TRUE(test, is_huge(mock, 0));
	KUNIT_EXPECT_EQ(test, mock_mapped(mock), PAGES);
	mock_holds(mock);
	mock_stop(mock);
}

static unsigned int count_runs(struct mock *mock, unsigned int first,
			       unsigned int pages, u64 want, u64 same,
			       unsigned int *total)
{
	struct hmm_mirror_iter iter;
	struct hmm_mirror_run run;
	unsigned int runs = 0;

	*total = 0;
	down_read(&mock->mirror.lock);
	hmm_mirror_runs(&iter, &mock->mirror, address(mock, first),
			address(mock, first + pages), want, same);
	while (hmm_mirror_next_run(&iter, &run)) {
		runs++;
		*total += run.nr;
	}
	up_read(&mock->mirror.lock);
	return runs;
}

static void runs_cross_blocks(struct kunit *test)
{
	struct mock *mock = start(test, 3, true);
	unsigned int total;

	KUNIT_EXPECT_EQ(test, 0,
			mock_fault(mock, 0, 2 * PAGES, RW, HMM_MIRROR_FAULT));
	KUNIT_EXPECT_EQ(test, 0,
			mock_fault(mock, 2 * PAGES, 1, RO, HMM_MIRROR_FAULT));
	KUNIT_EXPECT_EQ(test, 1,
			count_runs(mock, 5, 3 * PAGES - 9, PFN_TAG_MAPPED, 0,
				   &total));
	KUNIT_EXPECT_EQ(test, total, 3 * PAGES - 9);
	KUNIT_EXPECT_EQ(test, 2,
			count_runs(mock, 5, 3 * PAGES - 5, PFN_TAG_READ, RW,
				   &total));
	KUNIT_EXPECT_EQ(test, total, 3 * PAGES - 5);
	KUNIT_EXPECT_EQ(test, 1,
			count_runs(mock, 5, 3 * PAGES - 5, RW, RW, &total));
	KUNIT_EXPECT_EQ(test, total, 2 * PAGES - 5);
	KUNIT_EXPECT_EQ(test, 1,
			count_runs(mock, 5, 7, RW, RW | PFN_TAG_PFN, &total));
	clear(mock, 0, PAGES);
	KUNIT_EXPECT_EQ(test, 0,
			count_runs(mock, 0, PAGES, PFN_TAG_READ, 0, &total));
	tag(mock, PAGES + 5, 5, TAG);
	KUNIT_EXPECT_EQ(test, 3,
			count_runs(mock, 0, 2 * PAGES, PFN_TAG_READ,
				   PFN_TAG_USER, &total));
	KUNIT_EXPECT_EQ(test, 1,
			count_runs(mock, 0, 3 * PAGES, TAG, 0, &total));
	KUNIT_EXPECT_EQ(test, total, 5);
	mock_stop(mock);
}

static struct kunit_case hmm_mirror_block_cases[] = {
	KUNIT_CASE(a_huge_page_is_one_word_and_one_link),
	KUNIT_CASE(a_huge_page_goes_as_a_whole),
	KUNIT_CASE(borders_have_small_pages),
	KUNIT_CASE(a_huge_page_for_reading_becomes_writable),
	KUNIT_CASE(tags_split_the_block_and_not_its_entry),
	KUNIT_CASE(a_split_block_becomes_huge_again),
	KUNIT_CASE(a_richer_word_keeps_the_block_split),
	KUNIT_CASE(a_huge_page_written_by_software_stays_dirty),
	KUNIT_CASE(collapsing_replaces_the_pages),
	KUNIT_CASE(runs_cross_blocks),
	{}
};

static struct kunit_suite hmm_mirror_block_suite = {
	.name = "hmm_mirror_block",
	.test_cases = hmm_mirror_block_cases,
};

kunit_test_suite(hmm_mirror_block_suite);
