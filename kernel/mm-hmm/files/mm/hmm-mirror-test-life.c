// SPDX-License-Identifier: GPL-2.0
/*
 * Copyright (c) 2026 The Twostep authors
 *
 * KUnit tests of the HMM mirror: the life of a word, every line of the table in
 * linux/hmm-mirror.h.
 *
 * Whether a page was marked dirty is seen at the page itself: the case keeps a reference to
 * it, and clears the mark that the kernel may have set for reasons of its own.
 */

#include <linux/migrate.h>
#include <linux/mm.h>
#include <linux/mman.h>
#include <linux/swap.h>

#include "internal.h"

#include "hmm-mirror-internal.h"
#include "hmm-mirror-test.h"

#define SOME 16
#define TAG (5ULL << 52)

/* A mirror over pages that the process has written. */
static struct mock *start(struct kunit *test, bool linked)
{
	struct mock *mock = mock_create(test);

	if (!linked)
		mock->ops = (struct hmm_mirror_ops){};
	mock_start(mock, process_map(test, SOME, MAP_PRIVATE), SOME, RW);
	process_touch(test, address(mock, 0), SOME);
	return mock;
}

static void put_held(void *page)
{
	put_page(page);
}

/* The page of an address, held and clean. */
static struct page *hold(struct mock *mock, unsigned int i)
{
	u64 word = process_word(address(mock, i));
	struct page *page = pfn_to_page(word & PFN_TAG_PFN);

	KUNIT_ASSERT_NE(mock->test, word, 0);
	get_page(page);
	KUNIT_ASSERT_EQ(mock->test, 0,
			kunit_add_action_or_reset(mock->test, put_held, page));
	folio_clear_dirty(page_folio(page));
	return page;
}

static void drop(struct mock *mock, unsigned int i, unsigned int pages)
{
	process_advise(mock->test, address(mock, i), pages, MADV_DONTNEED);
}

static void absent_present_mapped_absent(struct kunit *test)
{
	struct mock *mock = start(test, true);

	mock->link_error = -EIO;
	mock->fail_links = 1;
	KUNIT_EXPECT_EQ(test, -EIO,
			mock_fault(mock, 0, 2, RW, HMM_MIRROR_FAULT));
	KUNIT_EXPECT_EQ(test, mock_word(mock, 0) & (RW | PFN_TAG_MAPPED), RW);
	mock_holds(mock);
	KUNIT_EXPECT_EQ(test, 0, mock_fault(mock, 0, 2, RW, HMM_MIRROR_FAULT));
	KUNIT_EXPECT_NE(test, mock_word(mock, 0) & PFN_TAG_MAPPED, 0);
	mock_holds(mock);
	mock_cache(mock);
	drop(mock, 0, 1);
	KUNIT_EXPECT_EQ(test, mock_word(mock, 0), 0);
	KUNIT_EXPECT_NE(test, mock_word(mock, 1), 0);
	KUNIT_EXPECT_EQ(test, mock->zaps, 1);
	KUNIT_EXPECT_EQ(test, mock->unlinks, 1);
	mock_holds(mock);
	mock_stop(mock);
}

/* Rights of a word that is not linked grow without an unlink. */
static void rights_of_a_present_page_grow(struct kunit *test)
{
	struct mock *mock = start(test, true);

	mock->link_error = -EIO;
	mock->fail_links = 1;
	KUNIT_EXPECT_EQ(test, -EIO,
			mock_fault(mock, 0, 1, RO, HMM_MIRROR_FAULT));
	KUNIT_EXPECT_EQ(test, mock_word(mock, 0) & RW, RO);
	KUNIT_EXPECT_EQ(test, 0, mock_fault(mock, 0, 1, RW, HMM_MIRROR_FAULT));
	KUNIT_EXPECT_EQ(test, mock_word(mock, 0) & RW, RW);
	KUNIT_EXPECT_EQ(test, mock->unlinks, 0);
	mock_holds(mock);
	mock_stop(mock);
}

/* Rights of a linked word grow by unlink and link; what was writable meanwhile is dirty. */
static void rights_of_a_mapped_page_grow(struct kunit *test)
{
	struct mock *mock = start(test, true);
	struct page *read = hold(mock, 1), *both = hold(mock, 3);

	KUNIT_EXPECT_EQ(test, 0, mock_fault(mock, 2, 2, RW, HMM_MIRROR_FAULT));
	KUNIT_EXPECT_EQ(test, 0, mock_fault(mock, 0, 6, RO, HMM_MIRROR_FAULT));
	KUNIT_EXPECT_EQ(test, mock->unlinks, 0);
	KUNIT_EXPECT_EQ(test, mock_word(mock, 2) & RW, RW);
	mock_cache(mock);
	/* 2 and 3 are between 0 and 4, and go with them. */
	KUNIT_EXPECT_EQ(test, 0, mock_fault(mock, 0, 5, RW, HMM_MIRROR_FAULT));
	KUNIT_EXPECT_EQ(test, mock->unlinks, 1);
	KUNIT_EXPECT_EQ(test, mock->zaps, 1);
	KUNIT_EXPECT_EQ(test, mock_word(mock, 0) & PFN_TAG_DIRTY, 0);
	KUNIT_EXPECT_NE(test, mock_word(mock, 2) & PFN_TAG_DIRTY, 0);
	KUNIT_EXPECT_EQ(test, mock_word(mock, 5) & RW, RO);
	mock_holds(mock);
	KUNIT_EXPECT_FALSE(test, PageDirty(read) || PageDirty(both));
	mock_stop(mock);
	KUNIT_EXPECT_TRUE(test, PageDirty(read) && PageDirty(both));
}

static void what_the_device_may_write_is_dirty(struct kunit *test)
{
	struct mock *mock = start(test, true);
	struct page *page[SOME];
	unsigned int i;

	for (i = 0; i < SOME; i++)
		page[i] = hold(mock, i);
	KUNIT_EXPECT_EQ(test, 0, mock_fault(mock, 0, 8, RW, HMM_MIRROR_FAULT));
	KUNIT_EXPECT_EQ(test, 0, mock_fault(mock, 8, 6, RO, HMM_MIRROR_FAULT));
	mock->link_error = -EIO;
	mock->fail_links = 1;
	KUNIT_EXPECT_EQ(test, -EIO,
			mock_fault(mock, 14, 2, RW, HMM_MIRROR_FAULT));
	drop(mock, 2, SOME - 2);
	for (i = 0; i < SOME; i++)
		KUNIT_EXPECT_EQ_MSG(test, PageDirty(page[i]), i >= 2 && i < 8,
				    "page %u", i);
	mock_holds(mock);
	mock_stop(mock);
	KUNIT_EXPECT_TRUE(test, PageDirty(page[0]) && PageDirty(page[1]));
}

static void what_software_wrote_is_dirty(struct kunit *test)
{
	struct mock *mock = start(test, false);
	struct page *page[SOME];
	unsigned int i;

	for (i = 0; i < SOME; i++)
		page[i] = hold(mock, i);
	KUNIT_EXPECT_EQ(test, 0,
			mock_fault(mock, 0, SOME, RW, HMM_MIRROR_FAULT));
	down_read(&mock->mirror.lock);
	hmm_mirror_written(&mock->mirror, address(mock, 3) + PAGE_SIZE - 1, 2);
	hmm_mirror_written(&mock->mirror, address(mock, 9), PAGE_SIZE);
	up_read(&mock->mirror.lock);
	KUNIT_EXPECT_NE(test, mock_word(mock, 4) & PFN_TAG_DIRTY, 0);
	/* Kept by a fault on the same page. */
	KUNIT_EXPECT_EQ(test, 0,
			mock_fault(mock, 0, SOME, RO, HMM_MIRROR_FAULT));
	drop(mock, 0, SOME);
	for (i = 0; i < SOME; i++)
		KUNIT_EXPECT_EQ_MSG(test, PageDirty(page[i]),
				    i == 3 || i == 4 || i == 9, "page %u", i);
	mock_stop(mock);
}

static void tag(struct mock *mock, unsigned int i, unsigned int pages, u64 user)
{
	KUNIT_EXPECT_EQ(mock->test, pages,
			hmm_mirror_tag(&mock->mirror, address(mock, i),
				       address(mock, i + pages), PFN_TAG_USER,
				       user));
}

static void user_bits_live_as_long_as_the_page(struct kunit *test)
{
	struct mock *mock = start(test, true);

	KUNIT_EXPECT_EQ(test, 0, mock_fault(mock, 0, 8, RO, HMM_MIRROR_FAULT));
	tag(mock, 0, 8, TAG);
	/* Faults on the same pages, links and unlinks. */
	KUNIT_EXPECT_EQ(test, 0, mock_fault(mock, 0, 4, RW, HMM_MIRROR_FAULT));
	KUNIT_EXPECT_EQ(test, 0, mock_fault(mock, 0, 8, RO, HMM_MIRROR_FAULT));
	KUNIT_EXPECT_EQ(test, mock->unlinks, 1);
	KUNIT_EXPECT_EQ(test, mock_word(mock, 1) & PFN_TAG_USER, TAG);
	/* Changed in part. */
	KUNIT_EXPECT_EQ(test, 1,
			hmm_mirror_tag(&mock->mirror, address(mock, 1),
				       address(mock, 2), TAG | 2ULL << 52,
				       2ULL << 52));
	KUNIT_EXPECT_EQ(test, mock_word(mock, 1) & PFN_TAG_USER, 2ULL << 52);
	KUNIT_EXPECT_EQ(test, -EINVAL,
			hmm_mirror_tag(&mock->mirror, address(mock, 0),
				       address(mock, 1), PFN_TAG_DIRTY, 0));
	/* A hole has no tag. */
	KUNIT_EXPECT_EQ(test, 1,
			hmm_mirror_tag(&mock->mirror, address(mock, 7),
				       address(mock, 9), TAG, TAG));
	drop(mock, 2, 1);
	KUNIT_EXPECT_EQ(test, 0, mock_fault(mock, 0, 9, RW, HMM_MIRROR_FAULT));
	KUNIT_EXPECT_EQ(test, mock_word(mock, 2) & PFN_TAG_USER, 0);
	KUNIT_EXPECT_EQ(test, mock_word(mock, 3) & PFN_TAG_USER, TAG);
	KUNIT_EXPECT_EQ(test, mock_word(mock, 8) & PFN_TAG_USER, 0);
	mock_holds(mock);
	mock_stop(mock);
}

/* What the kernel does to pages: their words go, their user bits do not come back. */
static void expect_gone(struct mock *mock, unsigned int i, const char *what)
{
	KUNIT_EXPECT_EQ_MSG(mock->test, mock_word(mock, i), 0, "%s", what);
	mock_holds(mock);
	if (mock_fault(mock, i, 1, RO, HMM_MIRROR_FAULT))
		return;
	KUNIT_EXPECT_EQ_MSG(mock->test, mock_word(mock, i) & PFN_TAG_USER, 0,
			    "%s", what);
	mock_holds(mock);
}

static struct folio *new_folio(struct folio *src, unsigned long private)
{
	return folio_alloc(GFP_HIGHUSER_MOVABLE, folio_order(src));
}

static void migrate(struct kunit *test, unsigned long addr)
{
	u64 word = process_word(addr);
	struct folio *folio = pfn_folio(word & PFN_TAG_PFN);
	LIST_HEAD(list);

	lru_add_drain_all();
	folio_get(folio);
	KUNIT_ASSERT_TRUE(test, folio_isolate_lru(folio));
	list_add(&folio->lru, &list);
	folio_put(folio);
	KUNIT_EXPECT_EQ(test, 0,
			migrate_pages(&list, new_folio, NULL, 0, MIGRATE_SYNC,
				      MR_SYSCALL, NULL));
	if (!list_empty(&list))
		putback_movable_pages(&list);
	KUNIT_EXPECT_NE(test, word, process_word(addr));
}

static void words_end_with_their_pages(struct kunit *test)
{
	struct mock *mock = start(test, true);
	u64 before;

	KUNIT_EXPECT_EQ(test, 0,
			mock_fault(mock, 0, SOME, RW, HMM_MIRROR_FAULT));
	tag(mock, 0, SOME, TAG);
	mock_cache(mock);
	before = mock_word(mock, 1);
	migrate(test, address(mock, 1));
	expect_gone(mock, 1, "migration");
	KUNIT_EXPECT_NE(test, (before ^ mock_word(mock, 1)) & PFN_TAG_PFN, 0);
	process_protect(test, address(mock, 2), 1, false);
	expect_gone(mock, 2, "write protection");
	drop(mock, 3, 1);
	expect_gone(mock, 3, "MADV_DONTNEED");
	process_unmap(test, address(mock, 4), 1);
	expect_gone(mock, 4, "munmap");
	process_advise(test, address(mock, 5), 1, MADV_FREE);
	expect_gone(mock, 5, "MADV_FREE");
	KUNIT_EXPECT_EQ(test, mock_word(mock, 6) & PFN_TAG_USER, TAG);
	KUNIT_EXPECT_NE(test, mock_word(mock, 6) & PFN_TAG_MAPPED, 0);
	mock_stop(mock);
}

/* The process writes to what it shared with others so far: here, the page of zeroes. */
static void copy_on_write_replaces_the_page(struct kunit *test)
{
	struct mock *mock = start(test, true);
	u64 zero;

	drop(mock, 0, 4);
	KUNIT_EXPECT_EQ(test, 0, mock_fault(mock, 0, 4, RO, HMM_MIRROR_FAULT));
	zero = mock_word(mock, 0);
	KUNIT_EXPECT_EQ(test, (zero ^ mock_word(mock, 1)) & PFN_TAG_PFN, 0);
	mock_cache(mock);
	process_touch(test, address(mock, 0), 1);
	KUNIT_EXPECT_EQ(test, mock_word(mock, 0), 0);
	mock_holds(mock);
	/* And a device that writes does the same: the page it could read goes. */
	KUNIT_EXPECT_EQ(test, 0, mock_fault(mock, 0, 2, RW, HMM_MIRROR_FAULT));
	KUNIT_EXPECT_NE(test, (zero ^ mock_word(mock, 1)) & PFN_TAG_PFN, 0);
	KUNIT_EXPECT_EQ(test, (zero ^ mock_word(mock, 2)) & PFN_TAG_PFN, 0);
	mock_holds(mock);
	mock_stop(mock);
}

static unsigned int to_move;

static void move_page(struct hmm_mirror *mirror,
		      const struct hmm_mirror_part *part)
{
	struct mock *mock = to_mock(mirror);

	process_replace(mock->test, address(mock, to_move), true);
}

/* No way leads here but a bug, so one is planted: words of pages that are gone. */
static void a_word_of_another_page_is_replaced(struct kunit *test)
{
	struct mock *mock = start(test, true);

	hmm_mirror_plant = (struct hmm_mirror_plant){
		.mirror = &mock->mirror,
		.walked = move_page,
		.unchecked = true,
	};
	to_move = 2;
	KUNIT_EXPECT_EQ(test, 0, mock_fault(mock, 0, 4, RW, HMM_MIRROR_FAULT));
	to_move = 6;
	mock->link_error = -EIO;
	mock->fail_links = 1;
	KUNIT_EXPECT_EQ(test, -EIO,
			mock_fault(mock, 4, 4, RW, HMM_MIRROR_FAULT));
	hmm_mirror_plant = (struct hmm_mirror_plant){};
	KUNIT_EXPECT_EQ(test, mock_mismatch(mock), 2);
	tag(mock, 0, 8, TAG);
	mock_cache(mock);

	KUNIT_EXPECT_EQ(test, 0, mock_fault(mock, 0, 8, RW, HMM_MIRROR_FAULT));
	mock_holds(mock);
	KUNIT_EXPECT_EQ(test, mock->unlinks, 1);
	KUNIT_EXPECT_EQ(test, mock_word(mock, 2) & (TAG | PFN_TAG_DIRTY), 0);
	KUNIT_EXPECT_EQ(test, mock_word(mock, 6) & (TAG | PFN_TAG_DIRTY), 0);
	KUNIT_EXPECT_EQ(test, mock_word(mock, 1) & TAG, TAG);
	mock_stop(mock);
}

/* With entries of any run, a neighbour is unlinked too, and stays present. */
static void a_neighbour_in_the_entry_is_unlinked(struct kunit *test)
{
	struct mock *mock = mock_create(test);
	unsigned long addr = process_map_huge(test, 1);
	struct page *page;

	mock->mirror.whole_runs = true;
	/* Pages of a huge page are contiguous; with less than a block none is HUGE here. */
	mock_start(mock, addr, 100, RW);
	KUNIT_EXPECT_EQ(test, 0, mock_fault(mock, 0, 50, RW, HMM_MIRROR_FAULT));
	KUNIT_EXPECT_EQ(test, 0,
			mock_fault(mock, 50, 50, RO, HMM_MIRROR_FAULT));
	KUNIT_EXPECT_EQ(test, mock->last_id, 2);
	tag(mock, 20, 1, TAG);
	page = hold(mock, 0);
	mock_cache(mock);
	down_write(&mock->mirror.lock);
	KUNIT_EXPECT_EQ(test, 20,
			hmm_mirror_clear(&mock->mirror, address(mock, 30),
					 address(mock, 50)));
	up_write(&mock->mirror.lock);
	KUNIT_EXPECT_EQ(test, mock->unlinks, 1);
	KUNIT_EXPECT_EQ(test, mock_mapped(mock), 50);
	KUNIT_EXPECT_EQ(test,
			mock_word(mock, 20) &
				(RW | PFN_TAG_MAPPED | TAG | PFN_TAG_DIRTY),
			RW | TAG | PFN_TAG_DIRTY);
	KUNIT_EXPECT_EQ(test, mock_word(mock, 40), 0);
	KUNIT_EXPECT_NE(test, mock_word(mock, 50) & PFN_TAG_MAPPED, 0);
	mock_holds(mock);
	mock_stop(mock);
	KUNIT_EXPECT_TRUE(test, PageDirty(page));
}

/* The process ends with the mirror in place; the mirror ends long after. */
static void the_process_may_go_first(struct kunit *test)
{
	struct mock *mock = start(test, true);

	KUNIT_EXPECT_EQ(test, 0,
			mock_fault(mock, 0, SOME, RW, HMM_MIRROR_FAULT));
	mock_cache(mock);
	/* Nothing more here: the action of mock_start() sees that all is gone. */
}

static struct kunit_case hmm_mirror_life_cases[] = {
	KUNIT_CASE(absent_present_mapped_absent),
	KUNIT_CASE(rights_of_a_present_page_grow),
	KUNIT_CASE(rights_of_a_mapped_page_grow),
	KUNIT_CASE(what_the_device_may_write_is_dirty),
	KUNIT_CASE(what_software_wrote_is_dirty),
	KUNIT_CASE(user_bits_live_as_long_as_the_page),
	KUNIT_CASE(words_end_with_their_pages),
	KUNIT_CASE(copy_on_write_replaces_the_page),
	KUNIT_CASE(a_word_of_another_page_is_replaced),
	KUNIT_CASE(a_neighbour_in_the_entry_is_unlinked),
	KUNIT_CASE(the_process_may_go_first),
	{}
};

static struct kunit_suite hmm_mirror_life_suite = {
	.name = "hmm_mirror_life",
	.test_cases = hmm_mirror_life_cases,
};

kunit_test_suite(hmm_mirror_life_suite);
