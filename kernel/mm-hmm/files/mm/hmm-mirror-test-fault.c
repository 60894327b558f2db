// SPDX-License-Identifier: GPL-2.0
/*
 * Copyright (c) 2026 The Twostep authors
 *
 * KUnit tests of the HMM mirror: fault, prefetch, snapshot, and what comes between.
 */

#include <linux/limits.h>
#include <linux/mm.h>
#include <linux/mman.h>

#include "hmm-mirror-internal.h"
#include "hmm-mirror-test.h"

/* A mirror over @pages of fresh private memory. */
static struct mock *start(struct kunit *test, unsigned int pages)
{
	struct mock *mock = mock_create(test);

	mock_start(mock, process_map(test, pages, MAP_PRIVATE), pages, RW);
	return mock;
}

static void a_fault_brings_pages_in(struct kunit *test)
{
	struct mock *mock = start(test, 3 * PAGES);
	struct hmm_mirror_stats *stats = &mock->mirror.stats;

	KUNIT_EXPECT_EQ(test, hmm_mirror_bytes(&mock->mirror), 0);
	KUNIT_EXPECT_EQ(test, 0,
			mock_fault(mock, 500, 20, RW, HMM_MIRROR_FAULT));
	KUNIT_EXPECT_EQ(test, mock->fault.present, 20);
	KUNIT_EXPECT_EQ(test, mock->fault.granted, RW);
	KUNIT_EXPECT_EQ(test, mock_mapped(mock), 20);
	KUNIT_EXPECT_EQ(test, mock->links, 2);
	KUNIT_EXPECT_EQ(test, 20, atomic64_read(&stats->fault_pages));
	KUNIT_EXPECT_EQ(test, 1, atomic64_read(&stats->faults_handled));
	mock_holds(mock);

	/* The same again: nothing is left to do. */
	KUNIT_EXPECT_EQ(test, 0,
			mock_fault(mock, 500, 20, RO, HMM_MIRROR_FAULT));
	KUNIT_EXPECT_EQ(test, mock->fault.granted, RW);
	KUNIT_EXPECT_EQ(test, mock->links, 2);
	KUNIT_EXPECT_EQ(test, mock->unlinks, 0);
	mock_holds(mock);
	mock_stop(mock);
}

/* Bytes, not pages; and not a byte outside. */
static void a_request_is_rounded_and_checked(struct kunit *test)
{
	struct mock *mock = mock_create(test);
	unsigned long addr = process_map(test, 8, MAP_PRIVATE);
	struct hmm_mirror_fault *request = &mock->fault;

	mock_start(mock, addr, 8, RO);
	KUNIT_EXPECT_EQ(test, -EFAULT,
			mock_fault(mock, 7, 2, RO, HMM_MIRROR_FAULT));
	KUNIT_EXPECT_EQ(test, -EPERM,
			mock_fault(mock, 0, 8, RW, HMM_MIRROR_FAULT));
	KUNIT_EXPECT_EQ(test, -EINVAL,
			mock_fault(mock, 0, 0, RO, HMM_MIRROR_FAULT));
	KUNIT_EXPECT_EQ(test, -EINVAL,
			mock_fault(mock, 0, 1, PFN_TAG_WRITE,
				   HMM_MIRROR_FAULT));
	KUNIT_EXPECT_EQ(test, 0, atomic64_read(&mock->mirror.stats.faults));

	request->access = RO;
	request->start = addr + PAGE_SIZE - 1;
	request->end = addr + PAGE_SIZE + 1;
	KUNIT_EXPECT_EQ(test, 0, hmm_mirror_fault(&mock->mirror, request));
	KUNIT_EXPECT_EQ(test, request->present, 2);
	KUNIT_EXPECT_EQ(test, mock_mapped(mock), 2);
	KUNIT_EXPECT_EQ(test, -EINVAL,
			hmm_mirror_init(&mock->mirror, current->mm, addr, 0,
					NULL));
	KUNIT_EXPECT_EQ(test, -EOVERFLOW,
			hmm_mirror_init(&mock->mirror, current->mm, addr,
					ULONG_MAX - addr, NULL));
	mock_stop(mock);
}

static void a_fault_stops_where_nothing_is(struct kunit *test)
{
	struct mock *mock = start(test, 2 * PAGES);

	process_unmap(test, address(mock, 600), 3);
	KUNIT_EXPECT_EQ(test, -EFAULT,
			mock_fault(mock, 590, 20, RO, HMM_MIRROR_FAULT));
	KUNIT_EXPECT_EQ(test, mock->fault.present, 10);
	KUNIT_EXPECT_EQ(test, mock->fault.granted, RO);
	KUNIT_EXPECT_EQ(test, mock_mapped(mock), 10);
	/* Over more than a block, and with what an earlier fault brought behind the hole. */
	KUNIT_EXPECT_EQ(test, 0,
			mock_fault(mock, 603, 2, RO, HMM_MIRROR_FAULT));
	KUNIT_EXPECT_EQ(test, -EFAULT,
			mock_fault(mock, 100, 700, RO, HMM_MIRROR_FAULT));
	KUNIT_EXPECT_EQ(test, mock->fault.present, 500);
	KUNIT_EXPECT_EQ(test, -EFAULT,
			mock_fault(mock, 600, 5, RO, HMM_MIRROR_FAULT));
	KUNIT_EXPECT_EQ(test, mock->fault.present, 0);
	KUNIT_EXPECT_EQ(test, mock->fault.granted, 0);
	KUNIT_EXPECT_EQ(test, 1,
			atomic64_read(&mock->mirror.stats.faults_handled));
	mock_holds(mock);
	mock_stop(mock);
}

static void what_may_only_be_read_is_not_written(struct kunit *test)
{
	struct mock *mock = start(test, PAGES);

	process_touch(test, address(mock, 0), 64);
	process_protect(test, address(mock, 16), 16, false);
	KUNIT_EXPECT_EQ(test, -EPERM,
			mock_fault(mock, 8, 32, RW, HMM_MIRROR_FAULT));
	KUNIT_EXPECT_EQ(test, mock->fault.present, 8);
	KUNIT_EXPECT_EQ(test, mock->fault.granted, RW);
	KUNIT_EXPECT_EQ(test, 0, mock_fault(mock, 8, 32, RO, HMM_MIRROR_FAULT));
	KUNIT_EXPECT_EQ(test, mock->fault.granted, RO);
	mock_holds(mock);
	mock_stop(mock);
}

static void prefetch_passes_over_what_is_not_there(struct kunit *test)
{
	struct mock *mock = start(test, 3 * PAGES);

	process_touch(test, address(mock, 200), 20);
	process_protect(test, address(mock, 200), 20, false);
	process_unmap(test, address(mock, 510), 4);
	KUNIT_EXPECT_EQ(test, 0,
			mock_fault(mock, 0, 3 * PAGES, RW,
				   HMM_MIRROR_PREFETCH));
	KUNIT_EXPECT_EQ(test, mock->fault.present, 3 * PAGES - 4);
	KUNIT_EXPECT_EQ(test, mock->fault.granted, RO);
	KUNIT_EXPECT_EQ(test, mock_word(mock, 210) & RW, RO);
	KUNIT_EXPECT_EQ(test, mock_word(mock, 220) & RW, RW);
	KUNIT_EXPECT_EQ(test, mock_word(mock, 511), 0);
	KUNIT_EXPECT_EQ(test, 0, atomic64_read(&mock->mirror.stats.faults));
	KUNIT_EXPECT_EQ(test, 1, atomic64_read(&mock->mirror.stats.prefetches));
	mock_holds(mock);
	mock_stop(mock);
}

static void a_snapshot_brings_nothing_in(struct kunit *test)
{
	struct mock *mock = start(test, 2 * PAGES);

	KUNIT_EXPECT_EQ(test, 0,
			mock_fault(mock, 0, 2 * PAGES, RW,
				   HMM_MIRROR_SNAPSHOT));
	KUNIT_EXPECT_EQ(test, mock->fault.present, 0);
	KUNIT_EXPECT_EQ(test, mock->fault.granted, 0);
	KUNIT_EXPECT_EQ(test, hmm_mirror_bytes(&mock->mirror), 0);
	process_touch(test, address(mock, 505), 10);
	process_protect(test, address(mock, 512), 3, false);
	KUNIT_EXPECT_EQ(test, 0,
			mock_fault(mock, 0, 2 * PAGES, RW,
				   HMM_MIRROR_SNAPSHOT));
	KUNIT_EXPECT_EQ(test, mock->fault.present, 10);
	KUNIT_EXPECT_EQ(test, mock->fault.granted, RO);
	KUNIT_EXPECT_EQ(test, mock_word(mock, 511) & RW, RW);
	KUNIT_EXPECT_EQ(test, mock_word(mock, 512) & RW, RO);
	KUNIT_EXPECT_EQ(test, mock_word(mock, 515), 0);
	mock_holds(mock);
	mock_stop(mock);
}

static unsigned int walks;

static void count_walk(struct hmm_mirror *mirror,
		       const struct hmm_mirror_part *part)
{
	walks++;
}

/* Nobody asks for each block of what is not there: which are there, and one behind each. */
static void what_is_not_there_is_passed_over(struct kunit *test)
{
	const unsigned int blocks = 64;
	struct mock *mock = start(test, blocks * PAGES);

	process_touch(test, address(mock, 3), 2);
	process_touch(test, address(mock, 20 * PAGES), 1);
	process_touch(test, address(mock, 40 * PAGES - 1), 2);
	hmm_mirror_plant = (struct hmm_mirror_plant){
		.mirror = &mock->mirror,
		.walked = count_walk,
	};
	walks = 0;
	KUNIT_EXPECT_EQ(test, 0,
			mock_fault(mock, 0, blocks * PAGES, RW,
				   HMM_MIRROR_SNAPSHOT));
	/* 0, 1; 20, 21; 39, 40, 41; and the last. */
	KUNIT_EXPECT_EQ(test, walks, 8);
	KUNIT_EXPECT_EQ(test, mock->fault.present, 5);
	mock_holds(mock);

	/* Holes. */
	process_unmap(test, address(mock, 2 * PAGES), 30 * PAGES);
	process_unmap(test, address(mock, 34 * PAGES), 29 * PAGES);
	walks = 0;
	mock->fault = (struct hmm_mirror_fault){
		.start = address(mock, 0),
		.end = address(mock, blocks * PAGES),
		.access = RW,
		.mode = HMM_MIRROR_PREFETCH,
	};
	KUNIT_EXPECT_EQ(test, 0,
			hmm_mirror_fault_and_lock(&mock->mirror, &mock->fault));
	up_write(&mock->mirror.lock);
	/* 0, 1, 2; 32, 33, 34; 63. */
	KUNIT_EXPECT_EQ(test, walks, 7);
	KUNIT_EXPECT_EQ(test, mock->fault.present, 5 * PAGES);
	mock_holds(mock);
	hmm_mirror_plant = (struct hmm_mirror_plant){};
	mock_stop(mock);
}

/* Without links a fault grants what the process may do: DIRTY is exact. */
static void a_software_device_gets_all_rights(struct kunit *test)
{
	struct mock *mock = mock_create(test);

	mock->ops = (struct hmm_mirror_ops){};
	mock_start(mock, process_map(test, 16, MAP_PRIVATE), 16, RW);
	process_touch(test, address(mock, 0), 8);
	KUNIT_EXPECT_EQ(test, 0, mock_fault(mock, 0, 16, RO, HMM_MIRROR_FAULT));
	KUNIT_EXPECT_EQ(test, mock->fault.present, 16);
	KUNIT_EXPECT_EQ(test, mock_word(mock, 7) & (RW | PFN_TAG_MAPPED), RW);
	/* The zero page. */
	KUNIT_EXPECT_EQ(test, mock_word(mock, 8) & (RW | PFN_TAG_MAPPED), RO);
	mock_holds(mock);
	mock_stop(mock);
}

static void links_that_fail_for_memory_are_tried_again(struct kunit *test)
{
	struct mock *mock = start(test, PAGES);

	mock->link_error = -ENOMEM;
	mock->fail_links = 3;
	mock->link_limit = 10;
	KUNIT_EXPECT_EQ(test, 0, mock_fault(mock, 0, 40, RW, HMM_MIRROR_FAULT));
	KUNIT_EXPECT_EQ(test, mock->fault.present, 40);
	KUNIT_EXPECT_EQ(test, mock->links, 4);
	mock_holds(mock);

	mock->fail_links = UINT_MAX;
	mock->link_limit = 25;
	KUNIT_EXPECT_EQ(test, -ENOMEM,
			mock_fault(mock, 100, 40, RW, HMM_MIRROR_FAULT));
	KUNIT_EXPECT_EQ(test, mock->fault.present, 25);
	KUNIT_EXPECT_LT(test, mock->links, 20);
	mock_holds(mock);

	mock->link_error = -EIO;
	mock->links = 0;
	KUNIT_EXPECT_EQ(test, -EIO,
			mock_fault(mock, 200, 40, RW, HMM_MIRROR_FAULT));
	KUNIT_EXPECT_EQ(test, mock->fault.present, 25);
	KUNIT_EXPECT_EQ(test, mock->links, 1);
	/* What is not linked is in the table all the same, and linked the next time. */
	KUNIT_EXPECT_NE(test, mock_word(mock, 239), 0);
	mock->fail_links = 0;
	KUNIT_EXPECT_EQ(test, 0,
			mock_fault(mock, 200, 40, RW, HMM_MIRROR_FAULT));
	mock_holds(mock);
	mock_stop(mock);
}

static unsigned int collisions;

/* The page goes, and another comes, when the walk has already seen it. */
static void replace_page(struct hmm_mirror *mirror,
			 const struct hmm_mirror_part *part)
{
	struct mock *mock = to_mock(mirror);

	if (!collisions)
		return;
	collisions--;
	process_replace(mock->test, address(mock, 3),
			hmm_mirror_plant.unchecked);
}

static void plant(struct mock *mock, unsigned int times, bool unchecked)
{
	collisions = times;
	hmm_mirror_plant = (struct hmm_mirror_plant){
		.mirror = &mock->mirror,
		.walked = replace_page,
		.unchecked = unchecked,
	};
}

static void unplant(void)
{
	hmm_mirror_plant = (struct hmm_mirror_plant){};
}

static void an_invalidation_throws_the_walk_away(struct kunit *test)
{
	struct mock *mock = start(test, PAGES);

	process_touch(test, address(mock, 0), 16);
	plant(mock, 3, false);
	KUNIT_EXPECT_EQ(test, 0, mock_fault(mock, 0, 16, RW, HMM_MIRROR_FAULT));
	KUNIT_EXPECT_EQ(test, mock->fault.present, 16);
	KUNIT_EXPECT_EQ(test, 3, atomic64_read(&mock->mirror.stats.retries));
	KUNIT_EXPECT_EQ(test, mock->links, 1);
	mock_holds(mock);

	/* Without end: given up, and nothing of it is in the table. */
	plant(mock, UINT_MAX, false);
	KUNIT_EXPECT_EQ(test, -EBUSY,
			mock_fault(mock, 0, 16, RW, HMM_MIRROR_FAULT));
	KUNIT_EXPECT_EQ(test, mock_word(mock, 3), 0);
	unplant();
	mock_holds(mock);
	mock_stop(mock);
}

/*
 * What the case before rests on: a fault that does not ask for invalidations leaves a page
 * that the process does not have any more, and the comparison sees that.
 */
static void publishing_unchecked_is_noticed(struct kunit *test)
{
	struct mock *mock = start(test, PAGES);

	process_touch(test, address(mock, 0), 16);
	plant(mock, 1, true);
	KUNIT_EXPECT_EQ(test, 0, mock_fault(mock, 0, 16, RW, HMM_MIRROR_FAULT));
	unplant();
	KUNIT_EXPECT_EQ(test, mock_mismatch(mock), 3);
	process_advise(test, address(mock, 3), 1, MADV_DONTNEED);
	mock_holds(mock);
	mock_stop(mock);
}

static bool walk_stores;
static int seen;

/*
 * The page goes while it is walked to. A walk that writes into the table stores what it read
 * all the same; the retry check comes too late for who takes the lock in between.
 */
static void store_late(struct hmm_mirror *mirror,
		       const struct hmm_mirror_part *part)
{
	struct mock *mock = to_mock(mirror);
	struct pfn_table_slot *slot =
		pfn_table_find(&mirror->table, part->block);
	u64 *word = slot->words + part->first;

	if (!collisions)
		return;
	collisions--;
	process_replace(mock->test, address(mock, part->first), true);
	if (walk_stores)
		*word = part->found[part->first];
	seen = mock_mismatch(mock);
	*word = 0;
}

/* Why a walk has memory of its own: the same fault with, and without. */
static void a_walk_into_the_table_is_noticed(struct kunit *test)
{
	struct mock *mock = start(test, PAGES);

	process_touch(test, address(mock, 0), 16);
	KUNIT_EXPECT_EQ(test, 0, mock_fault(mock, 0, 3, RW, HMM_MIRROR_FAULT));
	for (walk_stores = false;; walk_stores = true) {
		plant(mock, 1, false);
		hmm_mirror_plant.walked = store_late;
		KUNIT_EXPECT_EQ(test, 0,
				mock_fault(mock, 3, 1, RW, HMM_MIRROR_FAULT));
		unplant();
		KUNIT_EXPECT_EQ(test, collisions, 0);
		KUNIT_EXPECT_EQ(test, seen, walk_stores ? 3 : -1);
		mock_holds(mock);
		if (walk_stores)
			break;
		process_advise(test, address(mock, 3), 1, MADV_DONTNEED);
		process_touch(test, address(mock, 3), 1);
	}
	mock_stop(mock);
}

/* Between two blocks of one request a page of the first goes. */
static void undo_first_block(struct hmm_mirror *mirror,
			     const struct hmm_mirror_part *part)
{
	struct mock *mock = to_mock(mirror);

	if (!collisions || !mock_word(mock, 3))
		return;
	collisions--;
	process_advise(mock->test, address(mock, 3), 1, MADV_DONTNEED);
}

static void all_pages_are_there_when_it_is_locked(struct kunit *test)
{
	struct mock *mock = start(test, 3 * PAGES);
	unsigned int i;

	mock->fault = (struct hmm_mirror_fault){
		.start = address(mock, 0),
		.end = address(mock, 3 * PAGES),
		.access = RW,
	};
	plant(mock, 1, false);
	hmm_mirror_plant.walked = undo_first_block;
	KUNIT_EXPECT_EQ(test, 0,
			hmm_mirror_fault_and_lock(&mock->mirror, &mock->fault));
	unplant();
	KUNIT_EXPECT_EQ(test, collisions, 0);
	lockdep_assert_held_write(&mock->mirror.lock);
	KUNIT_EXPECT_EQ(test, mock->fault.present, 3 * PAGES);
	for (i = 0; i < 3 * PAGES; i++)
		KUNIT_EXPECT_TRUE(test, hmm_mirror_word(&mock->mirror,
							address(mock, i)) &
						PFN_TAG_MAPPED);
	up_write(&mock->mirror.lock);
	mock_holds(mock);

	mock->fault.end += PAGE_SIZE;
	KUNIT_EXPECT_EQ(test, -EFAULT,
			hmm_mirror_fault_and_lock(&mock->mirror, &mock->fault));
	lockdep_assert_not_held(&mock->mirror.lock);
	mock_stop(mock);
}

static bool notify(struct mock *mock, unsigned int first, unsigned int pages,
		   unsigned int flags)
{
	struct mmu_notifier_range range = {
		.mm = current->mm,
		.start = address(mock, first),
		.end = address(mock, first + pages),
		.flags = flags,
	};

	return mock->mirror.notifier.ops->invalidate(
		&mock->mirror.notifier, &range,
		mock->mirror.notifier.invalidate_seq | 1);
}

static void what_cannot_wait_is_refused(struct kunit *test)
{
	struct mock *mock = start(test, PAGES);

	mock->ops.may_sleep = true;
	KUNIT_EXPECT_EQ(test, 0, mock_fault(mock, 0, 8, RW, HMM_MIRROR_FAULT));
	/* The device may sleep. */
	KUNIT_EXPECT_FALSE(test, notify(mock, 4, 100, 0));
	KUNIT_EXPECT_EQ(test, mock_mapped(mock), 8);
	/* There is nothing to wait for. */
	KUNIT_EXPECT_TRUE(test, notify(mock, 8, 100, 0));
	mock->ops.may_sleep = false;
	/* Somebody else has the lock. */
	down_read(&mock->mirror.lock);
	KUNIT_EXPECT_FALSE(test, notify(mock, 4, 100, 0));
	up_read(&mock->mirror.lock);
	KUNIT_EXPECT_EQ(test, mock_mapped(mock), 8);
	KUNIT_EXPECT_TRUE(test, notify(mock, 4, 100, 0));
	KUNIT_EXPECT_EQ(test, mock_mapped(mock), 4);
	KUNIT_EXPECT_TRUE(test,
			  notify(mock, 0, 1, MMU_NOTIFIER_RANGE_BLOCKABLE));
	KUNIT_EXPECT_EQ(test, mock_mapped(mock), 3);
	mock_holds(mock);
	mock_stop(mock);
}

static struct kunit_case hmm_mirror_fault_cases[] = {
	KUNIT_CASE(a_fault_brings_pages_in),
	KUNIT_CASE(a_request_is_rounded_and_checked),
	KUNIT_CASE(a_fault_stops_where_nothing_is),
	KUNIT_CASE(what_may_only_be_read_is_not_written),
	KUNIT_CASE(prefetch_passes_over_what_is_not_there),
	KUNIT_CASE(a_snapshot_brings_nothing_in),
	KUNIT_CASE(what_is_not_there_is_passed_over),
	KUNIT_CASE(a_software_device_gets_all_rights),
	KUNIT_CASE(links_that_fail_for_memory_are_tried_again),
	KUNIT_CASE(an_invalidation_throws_the_walk_away),
	KUNIT_CASE(publishing_unchecked_is_noticed),
	KUNIT_CASE(a_walk_into_the_table_is_noticed),
	KUNIT_CASE(all_pages_are_there_when_it_is_locked),
	KUNIT_CASE(what_cannot_wait_is_refused),
	{}
};

static struct kunit_suite hmm_mirror_fault_suite = {
	.name = "hmm_mirror_fault",
	.test_cases = hmm_mirror_fault_cases,
};

kunit_test_suite(hmm_mirror_fault_suite);
