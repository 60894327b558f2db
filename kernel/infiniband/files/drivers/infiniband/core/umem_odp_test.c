// SPDX-License-Identifier: GPL-2.0
/*
 * Copyright (c) 2026 The Twostep authors
 *
 * KUnit tests of on-demand paging umems: runs of pages as entries of a device (umem_odp.h),
 * and counters for netlink. No device, no process.
 *
 * The reference is a plain array that says of each page whether it is in the run. An entry is
 * to be filled if all of its pages are, and to be zapped if any is.
 *
 * Parameter: ib_uverbs.odp_test_seed, 0 for a new one each time.
 */

#include <kunit/test.h>
#include <linux/mm.h>
#include <linux/moduleparam.h>
#include <linux/prandom.h>
#include <linux/random.h>
#include <net/netlink.h>
#include <rdma/rdma_netlink.h>

#include "umem_odp.h"

static ulong odp_test_seed;
module_param(odp_test_seed, ulong, 0644);
MODULE_PARM_DESC(odp_test_seed,
		 "seed of the on-demand paging tests, 0: a new one each time");

#define PAGES 2048
#define ROUNDS 2000
#define BASE 0x7f1200000000UL

/**
 * struct pages - some neighbouring pages
 * @rnd: where chance comes from
 * @shift: log2 of the bytes of an entry
 * @there: whether a page is in a run
 * @named: whether the entry of a page was named
 */
struct pages {
	struct rnd_state rnd;
	unsigned int shift;
	bool there[PAGES];
	bool named[PAGES];
};

static u32 below(struct rnd_state *rnd, u32 n)
{
	return prandom_u32_state(rnd) % n;
}

static struct pages *pages_create(struct kunit *test)
{
	struct pages *pages = kunit_kzalloc(test, sizeof(*pages), GFP_KERNEL);
	u64 chosen = odp_test_seed ?: get_random_u32();

	KUNIT_ASSERT_NOT_NULL(test, pages);
	kunit_info(test, "seed %llu", chosen);
	prandom_seed_state(&pages->rnd, chosen);
	return pages;
}

static void pages_draw(struct pages *pages)
{
	static const unsigned int shifts[] = { 0, 0, 2, PFN_TABLE_BLOCK_ORDER };
	struct rnd_state *rnd = &pages->rnd;
	unsigned int i, left = 0;
	bool there = false;

	pages->shift = PAGE_SHIFT + shifts[below(rnd, ARRAY_SIZE(shifts))];
	for (i = 0; i < PAGES; i++) {
		if (!left--) {
			left = below(rnd, 4) ? below(rnd, 6) : below(rnd, 1500);
			there = !there;
		}
		pages->there[i] = there;
	}
	memset(pages->named, 0, sizeof(pages->named));
}

/* The run that begins at page @i or behind it. Returns the page behind the run. */
static unsigned int pages_run(const struct pages *pages, unsigned int i,
			      struct ib_umem_odp_run *run)
{
	unsigned int first;

	while (i < PAGES && !pages->there[i])
		i++;
	first = i;
	while (i < PAGES && pages->there[i])
		i++;
	*run = (struct ib_umem_odp_run){
		.addr = BASE + first * PAGE_SIZE,
		.len = (i - first) * PAGE_SIZE,
	};
	return i;
}

/* Each page at most once. */
static void pages_name(struct kunit *test, struct pages *pages,
		       const struct ib_umem_odp_run *run)
{
	unsigned int i = (run->addr - BASE) >> PAGE_SHIFT;
	unsigned int behind = i + (run->len >> PAGE_SHIFT);

	KUNIT_ASSERT_GT(test, run->len, 0);
	KUNIT_ASSERT_LE(test, behind, PAGES);
	for (; i < behind; i++) {
		KUNIT_ASSERT_FALSE(test, pages->named[i]);
		pages->named[i] = true;
	}
}

/* How many pages of the entry of page @i are there. */
static unsigned int pages_in_entry(const struct pages *pages, unsigned int i)
{
	unsigned int per_entry = BIT(pages->shift - PAGE_SHIFT);
	unsigned int end = ALIGN_DOWN(i, per_entry) + per_entry, n = 0;

	for (i = end - per_entry; i < end; i++)
		n += pages->there[i];
	return n;
}

static void whole_entries_are_filled(struct kunit *test)
{
	struct pages *pages = pages_create(test);
	unsigned int round, i, per_entry;
	struct ib_umem_odp_run run;
	dma_addr_t dma;

	for (round = 0; round < ROUNDS; round++) {
		pages_draw(pages);
		per_entry = BIT(pages->shift - PAGE_SHIFT);
		dma = (dma_addr_t)prandom_u32_state(&pages->rnd)
		      << pages->shift;
		for (i = 0; i < PAGES;) {
			i = pages_run(pages, i, &run);
			run.dma = run.addr - BASE + dma;
			if (!run.len || !umem_odp_trim(&run, pages->shift))
				continue;
			KUNIT_ASSERT_EQ(test, run.dma, run.addr - BASE + dma);
			pages_name(test, pages, &run);
		}
		for (i = 0; i < PAGES; i++)
			KUNIT_ASSERT_EQ(test, pages->named[i],
					pages_in_entry(pages, i) == per_entry);
	}
}

static void entries_need_an_aligned_address(struct kunit *test)
{
	struct ib_umem_odp_run run = {
		.addr = BASE,
		.len = 4 * PFN_TABLE_BLOCK_SIZE,
		.dma = PAGE_SIZE,
	};

	KUNIT_EXPECT_FALSE(
		test, umem_odp_trim(&run, PAGE_SHIFT + PFN_TABLE_BLOCK_ORDER));
	run.dma = 0;
	KUNIT_EXPECT_TRUE(
		test, umem_odp_trim(&run, PAGE_SHIFT + PFN_TABLE_BLOCK_ORDER));
}

static void touched_entries_are_zapped_once(struct kunit *test)
{
	struct pages *pages = pages_create(test);
	struct ib_umem_odp_run run, last;
	unsigned int round, i;

	for (round = 0; round < ROUNDS; round++) {
		pages_draw(pages);
		last = (struct ib_umem_odp_run){};
		for (i = 0; i < PAGES;) {
			i = pages_run(pages, i, &run);
			if (run.len &&
			    umem_odp_widen(&run, &last, pages->shift))
				pages_name(test, pages, &run);
		}
		for (i = 0; i < PAGES; i++)
			KUNIT_ASSERT_EQ(test, pages->named[i],
					!!pages_in_entry(pages, i));
	}
}

/* Of a large part of an address space the blocks come in any order. */
static void blocks_are_zapped_in_any_order(struct kunit *test)
{
	const unsigned int shift = PAGE_SHIFT + PFN_TABLE_BLOCK_ORDER;
	static const unsigned int order[] = { 3, 0, 2, 1 };
	struct pages *pages = pages_create(test);
	struct ib_umem_odp_run run, last = {};
	unsigned int i, first;

	for (i = 0; i < ARRAY_SIZE(order) * 2; i++) {
		/* Two runs in each block, apart from each other. */
		first = order[i / 2] * PFN_TABLE_BLOCK_PAGES + i % 2 * 100;
		run = (struct ib_umem_odp_run){
			.addr = BASE + first * PAGE_SIZE,
			.len = 50 * PAGE_SIZE,
		};
		if (umem_odp_widen(&run, &last, shift))
			pages_name(test, pages, &run);
	}
	for (i = 0; i < PAGES; i++)
		KUNIT_EXPECT_TRUE(test, pages->named[i]);
}

/* What "rdma statistic show mr" reads: whether the table says @value of @name. */
static bool table_says(const struct sk_buff *msg, const char *name, u64 value)
{
	struct nlattr *table, *entry, *attrs[RDMA_NLDEV_ATTR_MAX];
	int left;

	table = nla_find((struct nlattr *)msg->data, msg->len,
			 RDMA_NLDEV_ATTR_STAT_HWCOUNTERS);
	if (!table)
		return false;
	nla_for_each_nested(entry, table, left) {
		if (nla_parse_nested(attrs, RDMA_NLDEV_ATTR_MAX - 1, entry,
				     NULL, NULL) ||
		    !attrs[RDMA_NLDEV_ATTR_STAT_HWCOUNTER_ENTRY_NAME] ||
		    !attrs[RDMA_NLDEV_ATTR_STAT_HWCOUNTER_ENTRY_VALUE])
			return false;
		if (!nla_strcmp(attrs[RDMA_NLDEV_ATTR_STAT_HWCOUNTER_ENTRY_NAME],
				name))
			return nla_get_u64(
				       attrs[RDMA_NLDEV_ATTR_STAT_HWCOUNTER_ENTRY_VALUE]) ==
			       value;
	}
	return false;
}

/* Under the names that mlx5 has, and not a part of the table where there is no room. */
static void counters_are_told_by_netlink(struct kunit *test)
{
	struct ib_umem_odp *odp = kunit_kzalloc(test, sizeof(*odp), GFP_KERNEL);
	struct sk_buff *msg = nlmsg_new(NLMSG_GOODSIZE, GFP_KERNEL);
	struct sk_buff *small = nlmsg_new(64, GFP_KERNEL);
	struct hmm_mirror_stats *stats = &odp->mirror.stats;

	if (!odp || !msg || !small)
		goto out;
	init_rwsem(&odp->mirror.lock);
	atomic64_set(&stats->fault_pages, 11);
	atomic64_set(&stats->faults_handled, 3);
	atomic64_set(&stats->invalidated_pages, 7);
	atomic64_set(&stats->invalidations_handled, 2);
	atomic64_set(&stats->prefetch_pages, 5);
	atomic64_set(&odp->links, 4);
	atomic64_set(&odp->unlinks, 2);
	KUNIT_EXPECT_EQ(test, 0, ib_umem_odp_fill_stats(msg, odp));
	KUNIT_EXPECT_TRUE(test, table_says(msg, "page_faults", 11));
	KUNIT_EXPECT_TRUE(test, table_says(msg, "page_faults_handled", 3));
	KUNIT_EXPECT_TRUE(test, table_says(msg, "page_invalidations", 7));
	KUNIT_EXPECT_TRUE(test,
			  table_says(msg, "page_invalidations_handled", 2));
	KUNIT_EXPECT_TRUE(test, table_says(msg, "page_prefetch", 5));
	KUNIT_EXPECT_TRUE(test, table_says(msg, "iommu_calls", 6));
	KUNIT_EXPECT_TRUE(test, table_says(msg, "iommu_flushes", 2));
	KUNIT_EXPECT_FALSE(test, table_says(msg, "iommu_flushes", 3));
	KUNIT_EXPECT_EQ(test, -EMSGSIZE, ib_umem_odp_fill_stats(small, odp));
	KUNIT_EXPECT_EQ(test, small->len, 0);
out:
	KUNIT_EXPECT_TRUE(test, odp && msg && small);
	nlmsg_free(msg);
	nlmsg_free(small);
}

static struct kunit_case cases[] = {
	KUNIT_CASE(whole_entries_are_filled),
	KUNIT_CASE(entries_need_an_aligned_address),
	KUNIT_CASE(touched_entries_are_zapped_once),
	KUNIT_CASE(blocks_are_zapped_in_any_order),
	KUNIT_CASE(counters_are_told_by_netlink),
	{}
};

static struct kunit_suite suite = {
	.name = "umem_odp",
	.test_cases = cases,
};

kunit_test_suite(suite);
