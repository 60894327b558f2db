// SPDX-License-Identifier: GPL-2.0
/*
 * Copyright (c) 2026 The Twostep authors
 *
 * KUnit tests of the two-step DMA core: several users of one domain.
 *
 * Threads that each own a range, a reference and memory operate at random, on one device or
 * on the two devices of a group, whose ranges live in one domain. No thread waits for
 * another, so what they share inside the IOMMU driver is theirs to break.
 *
 * Suite dma_iova_group needs two writers in one group: behind QEMU's pcie-pci-bridge, where
 * the IOMMU cannot tell them apart.
 */

#include <linux/completion.h>
#include <linux/iommu.h>
#include <linux/kthread.h>

#include "dma-iova-test.h"

#define THREADS 4

/**
 * struct range_user - a thread and what it owns
 * @ref: its range
 * @pool: its memory
 * @seed: of its operations
 * @good: whether its reference held
 * @finished: completed at its end
 */
struct range_user {
	struct ref *ref;
	struct test_pool *pool;
	u64 seed;
	bool good;
	struct completion finished;
};

static int operate(void *data)
{
	struct range_user *user = data;

	user->good = random_operations(user->ref, user->pool, user->seed,
				       test_steps());
	complete(&user->finished);
	return 0;
}

/* Ranges that do not end at a table's border, so that neighbours share tables where they may. */
static void prepare(struct kunit *test, struct range_user *user,
		    struct test_device *device, unsigned int i)
{
	static const size_t modulo[] = { SZ_4K, SZ_2M, SZ_64K, SZ_4K };

	init_completion(&user->finished);
	user->pool = pool_create(test);
	user->ref = ref_create(test, device, SZ_4M / PAGE_SIZE);
	user->ref->neighbours = false;
	if (i % 2) {
		KUNIT_ASSERT_TRUE(
			test, dma_iova_try_alloc(device->dev, &user->ref->state,
						 0, SZ_1M + i * PAGE_SIZE));
		ref_adopt(user->ref, 0, 0);
	} else {
		KUNIT_ASSERT_EQ(test, 0,
				ref_reserve(user->ref, 0x7000 * i,
					    modulo[i % 4], SZ_4M - i * SZ_64K,
					    0));
	}
}

static void run_together(struct kunit *test, struct test_device *one,
			 struct test_device *other)
{
	struct range_user *users =
		kunit_kcalloc(test, THREADS, sizeof(*users), GFP_KERNEL);
	u64 seed = test_seed(test);
	struct task_struct *task;
	unsigned int i;

	KUNIT_ASSERT_NOT_NULL(test, users);
	for (i = 0; i < THREADS; i++) {
		prepare(test, &users[i], i < THREADS / 2 ? one : other, i);
		users[i].seed = seed + i;
	}
	iommu_testdev_faults_begin();
	for (i = 0; i < THREADS; i++) {
		task = kthread_run(operate, &users[i], "dma_iova_test/%u", i);
		if (IS_ERR(task))
			complete(&users[i].finished);
	}
	for (i = 0; i < THREADS; i++)
		wait_for_completion(&users[i].finished);
	iommu_testdev_faults_end();
	for (i = 0; i < THREADS; i++) {
		KUNIT_EXPECT_TRUE_MSG(test, users[i].good, "thread %u", i);
		ref_holds(users[i].ref, "all threads ended");
	}
	for (i = 0; i < THREADS; i++)
		ref_destroy(users[i].ref);
}

static void users_of_one_device(struct kunit *test)
{
	if (!test_devices.alone)
		kunit_skip(test,
			   "no iommu-testdev that is alone behind an IOMMU");
	run_together(test, test_devices.alone, test_devices.alone);
}

static struct kunit_case dma_iova_together_cases[] = {
	KUNIT_CASE(users_of_one_device),
	{}
};

static struct kunit_suite dma_iova_together_suite = {
	.name = "dma_iova_together",
	.suite_init = test_devices_get,
	.suite_exit = test_devices_put,
	.test_cases = dma_iova_together_cases,
};

static int needs_pair(struct kunit *test)
{
	if (!test_devices.pair)
		kunit_skip(test, "no two iommu-testdev in one group");
	return 0;
}

static void devices_of_a_group_share_addresses(struct kunit *test)
{
	struct test_device *one = test_devices.pair, *other = one + 1;
	struct dma_iova_state states[64] = {};
	unsigned int i;

	KUNIT_EXPECT_PTR_EQ(test, one->dev->iommu_group,
			    other->dev->iommu_group);
	KUNIT_EXPECT_PTR_NE(test, one->dev, other->dev);
	for (i = 0; i < ARRAY_SIZE(states) / 2; i++) {
		struct dma_iova_state *pair = states + 2 * i;

		KUNIT_EXPECT_EQ(test, 0,
				dma_iova_reserve(one->dev, &pair[0], i,
						 SZ_4K << i % 12,
						 SZ_64K * i + 1));
		KUNIT_EXPECT_EQ(test, 0,
				dma_iova_reserve(other->dev, &pair[1], i,
						 SZ_4K << i % 12,
						 SZ_64K * i + 1));
	}
	for (i = 0; i < ARRAY_SIZE(states) / 2; i++) {
		KUNIT_EXPECT_NE(test, states[2 * i].addr,
				states[2 * i + 1].addr);
		dma_iova_free(other->dev, &states[2 * i + 1]);
	}
	for (i = 0; i < ARRAY_SIZE(states) / 2; i++)
		swap(states[i], states[2 * i]);
	expect_apart(test, states, ARRAY_SIZE(states) / 2);
	for (i = 0; i < ARRAY_SIZE(states) / 2; i++)
		dma_iova_free(one->dev, &states[i]);
}

/* What one links the other reaches, and no longer once it is unlinked. */
static void an_unlink_holds_for_the_whole_group(struct kunit *test)
{
	struct test_device *one = test_devices.pair, *other = one + 1;
	struct test_pool *pool = pool_create(test);
	struct ref *ref = ref_create(test, one, 16);
	phys_addr_t phys = pool->areas[0].phys;

	KUNIT_ASSERT_EQ(test, 0, ref_reserve(ref, 0, SZ_4K, SZ_64K, 0));
	KUNIT_ASSERT_EQ(test, 0,
			dma_iova_link(one->dev, &ref->state, phys, 0, SZ_16K,
				      DMA_FROM_DEVICE, 0));
	KUNIT_ASSERT_EQ(test, 0,
			dma_iova_sync(one->dev, &ref->state, 0, SZ_16K));
	ref_link(ref, 0, 4, phys, PFN_TAG_WRITE);
	ref_holds(ref, "link");
	KUNIT_EXPECT_EQ(test, 0,
			writer_stores(one, ref->state.addr, phys, SZ_16K));
	KUNIT_EXPECT_EQ(test, 0,
			writer_stores(other, ref->state.addr, phys, SZ_16K));

	dma_iova_unlink(one->dev, &ref->state, 0, SZ_16K, DMA_FROM_DEVICE, 0);
	memset(phys_to_virt(phys), 0, SZ_16K);
	iommu_testdev_faults_begin();
	KUNIT_EXPECT_EQ(test, -EACCES,
			writer_stores(one, ref->state.addr, phys, 4));
	KUNIT_EXPECT_EQ(test, -EACCES,
			writer_stores(other, ref->state.addr, phys, 4));
	iommu_testdev_faults_end();
	KUNIT_EXPECT_PTR_EQ(test, memchr_inv(phys_to_virt(phys), 0, SZ_16K),
			    NULL);
	memset(ref->at, 0, 4 * sizeof(*ref->at));
	ref_holds(ref, "unlink");
}

static void users_of_two_devices(struct kunit *test)
{
	run_together(test, test_devices.pair, test_devices.pair + 1);
}

static struct kunit_case dma_iova_group_cases[] = {
	KUNIT_CASE(devices_of_a_group_share_addresses),
	KUNIT_CASE(an_unlink_holds_for_the_whole_group),
	KUNIT_CASE(users_of_two_devices),
	{}
};

static struct kunit_suite dma_iova_group_suite = {
	.name = "dma_iova_group",
	.suite_init = test_devices_get,
	.suite_exit = test_devices_put,
	.init = needs_pair,
	.test_cases = dma_iova_group_cases,
};

kunit_test_suites(&dma_iova_together_suite, &dma_iova_group_suite);
