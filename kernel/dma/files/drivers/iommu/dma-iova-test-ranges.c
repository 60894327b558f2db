// SPDX-License-Identifier: GPL-2.0
/*
 * Copyright (c) 2026 The Twostep authors
 *
 * KUnit tests of the two-step DMA core: reserving ranges of IOVA.
 */

#include <linux/dma-mapping.h>
#include <linux/iommu.h>
#include <linux/log2.h>
#include <linux/mm.h>

#include "dma-iova-test.h"

static size_t any_size(struct rnd_state *rnd)
{
	static const size_t sizes[] = { 1,	   PAGE_SIZE - 1,
					PAGE_SIZE, PAGE_SIZE + 1,
					SZ_2M,	   SZ_2M + 1,
					SZ_16M };
	u32 which = below(rnd, 2 * ARRAY_SIZE(sizes));

	return which < ARRAY_SIZE(sizes) ? sizes[which] :
					   1 + below(rnd, SZ_16M);
}

static void ranges_are_congruent_and_apart(struct kunit *test)
{
	struct device *dev = test_devices.alone->dev;
	struct dma_iova_state *states, *state;
	unsigned int nr = 400, i;
	struct rnd_state rnd;
	size_t modulo, size;
	u64 like;
	int ret;

	states = kunit_kcalloc(test, nr, sizeof(*states), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, states);
	prandom_seed_state(&rnd, test_seed(test));
	for (i = 0; i < nr; i++) {
		state = &states[i];
		/* 1 GiB costs up to 1 GiB more: not for all of them. */
		modulo = PAGE_SIZE << below(&rnd, i % 8 ? 12 : 19);
		size = i % 100 ? any_size(&rnd) : huge_size();
		like = (u64)prandom_u32_state(&rnd) << 32 |
		       prandom_u32_state(&rnd);
		ret = dma_iova_reserve(dev, state, like, modulo, size);
		if (ret) {
			KUNIT_FAIL(test,
				   "%d from range %u, size %zx modulo %zx", ret,
				   i, size, modulo);
			break;
		}
		KUNIT_EXPECT_EQ(test, dma_iova_size(state), size);
		KUNIT_EXPECT_EQ_MSG(test, (state->addr - like) & (modulo - 1),
				    0, "%llx like %llx modulo %zx",
				    (u64)state->addr, like, modulo);
	}
	nr = i;
	expect_apart(test, states, nr);
	for (i = 0; i < nr; i++) {
		dma_iova_free(dev, &states[i]);
		KUNIT_EXPECT_FALSE(test, dma_use_iova(&states[i]));
	}
}

/* Where finding room for one does not depend on how many there are. */
static void large_ranges_come_from_the_window(struct kunit *test)
{
	const size_t sizes[] = { SZ_4K, SZ_2M, SZ_1G, huge_size() };
	struct device *dev = test_devices.alone->dev;
	struct dma_iova_state state;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		KUNIT_ASSERT_EQ(test, 0,
				dma_iova_reserve(dev, &state, 0, SZ_2M,
						 sizes[i]));
		KUNIT_EXPECT_TRUE_MSG(test, state.__size & DMA_IOVA_WINDOW,
				      "size %zx at %llx", sizes[i],
				      (u64)state.addr);
		dma_iova_free(dev, &state);
	}
}

static void reserve_refuses_nonsense(struct kunit *test)
{
	static const struct {
		size_t modulo;
		size_t size;
	} wrong[] = {
		{ PAGE_SIZE, 0 },
		{ 0, PAGE_SIZE },
		{ PAGE_SIZE / 2, PAGE_SIZE },
		{ 1, PAGE_SIZE },
		{ 3 * PAGE_SIZE, PAGE_SIZE },
		{ PAGE_SIZE, BIT_ULL(55) },
		{ PAGE_SIZE, SIZE_MAX },
		{ BIT_ULL(63), PAGE_SIZE },
	};
	struct device *dev = test_devices.alone->dev;
	struct dma_iova_state state;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(wrong); i++) {
		memset(&state, 0xff, sizeof(state));
		KUNIT_EXPECT_EQ_MSG(
			test, -EINVAL,
			dma_iova_reserve(dev, &state, 0, wrong[i].modulo,
					 wrong[i].size),
			"modulo %zx size %zx", wrong[i].modulo, wrong[i].size);
		KUNIT_EXPECT_FALSE(test, dma_use_iova(&state));
	}
	/* No IOMMU has that many. */
	KUNIT_EXPECT_EQ(test, -ENOMEM,
			dma_iova_reserve(dev, &state, 0, PAGE_SIZE,
					 BIT_ULL(54)));
	KUNIT_EXPECT_EQ(test, -ENOMEM,
			dma_iova_reserve(dev, &state, 0, BIT_ULL(54),
					 PAGE_SIZE));
	KUNIT_EXPECT_FALSE(test, dma_use_iova(&state));
}

/* Far apart in a huge range, one page each; the tables go with the range. */
static void a_huge_range_is_sparse(struct kunit *test)
{
	struct ref *ref = ref_create(test, test_devices.alone, 1);
	struct test_pool *pool = pool_create(test);
	phys_addr_t phys = pool->areas[0].phys;
	struct device *dev = ref->device->dev;
	size_t size = huge_size(), offset;
	long pages = 0;
	unsigned int round, i;

	for (round = 0; round < 3; round++) {
		KUNIT_ASSERT_EQ(test, 0,
				ref_reserve(ref, 0x1000, SZ_2M, size, 0));
		for (i = 0; i < 64; i++) {
			offset = i * (size / 64) + i * PAGE_SIZE;
			KUNIT_ASSERT_EQ(test, 0,
					dma_iova_link(dev, &ref->state, phys,
						      offset, PAGE_SIZE,
						      DMA_FROM_DEVICE, 0));
			KUNIT_EXPECT_EQ(test, 0,
					dma_iova_sync(dev, &ref->state, offset,
						      PAGE_SIZE));
			KUNIT_EXPECT_EQ(
				test, phys,
				iommu_iova_to_phys(ref->device->domain,
						   ref->state.addr + offset));
			KUNIT_EXPECT_EQ(test, 0,
					writer_stores(ref->device,
						      ref->state.addr + offset,
						      phys, 4));
		}
		ref_destroy(ref);
		if (round == 0)
			pages = table_pages();
	}
	KUNIT_EXPECT_EQ(test, pages, table_pages());
}

/* Returns how many were reserved; *first and *last are the times of the outer tenths. */
static unsigned int reserve_many(struct device *dev,
				 struct dma_iova_state *states, unsigned int nr,
				 u64 *first, u64 *last)
{
	u64 began = ktime_get_ns();
	unsigned int i;

	for (i = 0; i < nr; i++) {
		if (dma_iova_reserve(dev, &states[i], i * 0x3000ULL, SZ_2M,
				     SZ_1M))
			break;
		if (i == nr / 10)
			*first = ktime_get_ns() - began;
		if (i == nr / 10 * 9)
			began = ktime_get_ns();
		cond_resched();
	}
	*last = ktime_get_ns() - began;
	return i;
}

static void many_ranges_live_at_once(struct kunit *test)
{
	struct device *dev = test_devices.alone->dev;
	/* Each takes a block or two of 2 MiB: a quarter of the addresses shall do. */
	u64 room =
		test_devices.alone->domain->geometry.aperture_end / 4 / SZ_4M;
	unsigned int wanted = min_t(u64, room, test_ranges()), nr, i;
	struct dma_iova_state *states =
		kvcalloc(wanted, sizeof(*states), GFP_KERNEL);
	u64 first = 0, last = 0;

	KUNIT_ASSERT_NOT_NULL(test, states);
	nr = reserve_many(dev, states, wanted, &first, &last);
	KUNIT_EXPECT_EQ(test, nr, wanted);
	kunit_info(test, "%u: the first tenth took %llu us, the last %llu us",
		   nr, first / 1000, last / 1000);
	expect_apart(test, states, nr);
	for (i = 0; i < nr; i++) {
		dma_iova_free(dev, &states[i]);
		cond_resched();
	}
	kvfree(states);
}

static struct kunit_case dma_iova_ranges_cases[] = {
	KUNIT_CASE(ranges_are_congruent_and_apart),
	KUNIT_CASE(large_ranges_come_from_the_window),
	KUNIT_CASE(reserve_refuses_nonsense),
	KUNIT_CASE(a_huge_range_is_sparse),
	KUNIT_CASE_SLOW(many_ranges_live_at_once),
	{}
};

static struct kunit_suite dma_iova_ranges_suite = {
	.name = "dma_iova_ranges",
	.suite_init = test_devices_get,
	.suite_exit = test_devices_put,
	.init = test_needs_alone,
	.test_cases = dma_iova_ranges_cases,
};

kunit_test_suite(dma_iova_ranges_suite);
