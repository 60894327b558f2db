// SPDX-License-Identifier: GPL-2.0
/*
 * Copyright (c) 2026 The Twostep authors
 *
 * KUnit tests of the two-step DMA core: how often VT-d is told to forget.
 *
 * Descriptors of IOTLB invalidations of the device's domain are counted where they are put
 * into the hardware's queue, by a probe of that tracepoint. Nobody else uses the domain.
 */

#include <linux/dma-mapping.h>
#include <linux/iommu.h>
#include <linux/tracepoint.h>

#include "dma-iova-test.h"
#include "intel/iommu.h"
#include "intel/trace.h"

static struct intel_iommu *watched;
static u16 watched_id;
static atomic_t flushes;

static void count(void *data, struct intel_iommu *iommu, u64 qw0, u64 qw1,
		  u64 qw2, u64 qw3)
{
	u64 type = qw0 & 0xf, id = qw0 >> 16 & 0xffff;

	if (iommu == watched && id == watched_id &&
	    (type == QI_IOTLB_TYPE || type == QI_EIOTLB_TYPE))
		atomic_inc(&flushes);
}

static void stop_counting(void *unused)
{
	unregister_trace_qi_submit(count, NULL);
	tracepoint_synchronize_unregister();
}

static int start_counting(struct kunit *test)
{
	struct test_device *device = test_devices.alone;
	struct device_domain_info *info;

	if (!device || !test_devices.tables)
		kunit_skip(test, "no iommu-testdev that is alone behind VT-d");
	info = dev_iommu_priv_get(device->dev);
	watched = info->iommu;
	watched_id = domain_id_iommu(to_dmar_domain(device->domain), watched);
	KUNIT_ASSERT_EQ(test, 0, register_trace_qi_submit(count, NULL));
	return kunit_add_action_or_reset(test, stop_counting, NULL);
}

static int flushed(void)
{
	return atomic_xchg(&flushes, 0);
}

/* Hardware that remembers absent entries must be told of new ones: once a call. */
static int flushes_of_sync(void)
{
	return cap_caching_mode(watched->cap) ? 1 : 0;
}

/* @nr words, @stride granules apart, each a page of its own. */
static void scatter(struct ref *ref, struct test_pool *pool, unsigned int nr,
		    unsigned int stride)
{
	unsigned int i;

	memset(ref->words, 0, ref->nr * sizeof(*ref->words));
	for (i = 0; i < nr; i++)
		ref->words[i * stride] =
			pfn_tag(PHYS_PFN(pool->areas[0].phys) + i * 3 % 512,
				PFN_TAG_ACCESS, PFN_KIND_REGULAR);
}

static void one_flush_for_any_array(struct kunit *test)
{
	static const unsigned int numbers[] = { 1, 2, 17, 512, 700, 2000 };
	struct ref *ref =
		ref_create(test, test_devices.alone, 2 * SZ_8M / PAGE_SIZE);
	struct device *dev = ref->device->dev;
	struct test_pool *pool = pool_create(test);
	unsigned int i, stride;
	size_t done;

	KUNIT_ASSERT_EQ(test, 0, ref_reserve(ref, 0, SZ_2M, 2 * SZ_8M, 0));
	for (i = 0; i < 2 * ARRAY_SIZE(numbers); i++) {
		stride = 1 + i % 2;
		scatter(ref, pool, numbers[i / 2], stride);
		flushed();
		KUNIT_EXPECT_EQ(test, 0,
				dma_iova_link_pfns(dev, &ref->state, 0,
						   ref->words, ref->nr, &done,
						   GFP_KERNEL));
		KUNIT_EXPECT_EQ_MSG(test, flushed(), flushes_of_sync(),
				    "linking %u words, stride %u",
				    numbers[i / 2], stride);
		dma_iova_unlink_pfns(dev, &ref->state, 0, ref->words, ref->nr);
		KUNIT_EXPECT_EQ_MSG(test, flushed(), 1,
				    "unlinking %u words, stride %u",
				    numbers[i / 2], stride);
		dma_iova_unlink_pfns(dev, &ref->state, 0, ref->words, ref->nr);
		KUNIT_EXPECT_EQ_MSG(test, flushed(), 0, "unlinking nothing");
	}
	ref_holds(ref, "flushes");
}

static void one_flush_for_runs_far_apart(struct kunit *test)
{
	struct ref *ref = ref_create(test, test_devices.alone, 1);
	struct device *dev = ref->device->dev;
	struct test_pool *pool = pool_create(test);
	struct run_list *list = kunit_kzalloc(test, sizeof(*list), GFP_KERNEL);
	unsigned int i;

	KUNIT_ASSERT_NOT_NULL(test, list);
	KUNIT_ASSERT_EQ(test, 0, ref_reserve(ref, 0, SZ_2M, huge_size(), 0));
	run_list_reset(list);
	list->nr = ARRAY_SIZE(list->run);
	for (i = 0; i < list->nr; i++)
		list->run[i] = (struct dma_iova_run){
			.phys = pool->areas[i % POOL_BLOCKS].phys,
			.offset = i * (huge_size() / 64),
			.len = i % 3 ? SZ_2M : SZ_64K,
			.access = PFN_TAG_ACCESS,
		};
	flushed();
	KUNIT_EXPECT_EQ(test, 0,
			dma_iova_link_runs(dev, &ref->state, &list->iter,
					   GFP_KERNEL));
	KUNIT_EXPECT_EQ(test, flushed(), flushes_of_sync());
	list->at = 0;
	/* Cut the large ones, too. */
	for (i = 0; i < list->nr; i++)
		list->run[i].len = SZ_64K;
	dma_iova_unlink_runs(dev, &ref->state, &list->iter);
	KUNIT_EXPECT_EQ(test, flushed(), 1);
	KUNIT_EXPECT_EQ(test, list->nr_widened, 26);
}

/* Also in lazy mode; only the end of a small range may wait there, as for dma_unmap_page(). */
static void one_flush_for_a_mapping(struct kunit *test)
{
	struct ref *ref = ref_create(test, test_devices.alone, 1024);
	struct device *dev = ref->device->dev;
	struct test_pool *pool = pool_create(test);
	bool lazy = ref->device->domain->type == IOMMU_DOMAIN_DMA_FQ;
	size_t size = SZ_1M;
	unsigned int i;

	for (i = 0; i < 2; i++) {
		KUNIT_ASSERT_TRUE(test, dma_iova_try_alloc(dev, &ref->state, 0,
							   size));
		flushed();
		KUNIT_EXPECT_EQ(test, 0,
				dma_iova_link(dev, &ref->state,
					      pool->areas[0].phys, 0, size,
					      DMA_FROM_DEVICE, 0));
		KUNIT_EXPECT_EQ(test, flushed(), 0);
		KUNIT_EXPECT_EQ(test, 0,
				dma_iova_sync(dev, &ref->state, 0, size));
		KUNIT_EXPECT_EQ(test, flushed(), flushes_of_sync());
		if (i) {
			dma_iova_unlink(dev, &ref->state, 0, size,
					DMA_FROM_DEVICE, 0);
			KUNIT_EXPECT_EQ(test, flushed(), 1);
			dma_iova_free(dev, &ref->state);
			KUNIT_EXPECT_EQ(test, flushed(), 0);
		} else {
			dma_iova_destroy(dev, &ref->state, size,
					 DMA_FROM_DEVICE, 0);
			KUNIT_EXPECT_EQ(test, flushed(), lazy ? 0 : 1);
		}
	}
	kunit_info(test, "%s, %s caching mode", lazy ? "lazy" : "strict",
		   cap_caching_mode(watched->cap) ? "with" : "without");
}

static struct kunit_case dma_iova_flush_cases[] = {
	KUNIT_CASE(one_flush_for_any_array),
	KUNIT_CASE(one_flush_for_runs_far_apart),
	KUNIT_CASE(one_flush_for_a_mapping),
	{}
};

static struct kunit_suite dma_iova_flush_suite = {
	.name = "dma_iova_flush",
	.suite_init = test_devices_get,
	.suite_exit = test_devices_put,
	.init = start_counting,
	.test_cases = dma_iova_flush_cases,
};

kunit_test_suite(dma_iova_flush_suite);
