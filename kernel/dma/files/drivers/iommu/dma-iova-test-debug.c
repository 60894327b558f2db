// SPDX-License-Identifier: GPL-2.0
/*
 * Copyright (c) 2026 The Twostep authors
 *
 * KUnit tests of the two-step DMA core: what dma-debug says of a driver's mistakes.
 *
 * Each case makes one mistake and looks that it is reported once, as what it is. Warnings
 * are off while any suite of these tests runs: the others link twice on purpose.
 */

#include <linux/dma-mapping.h>
#include <linux/iommu.h>
#include <linux/pci.h>

#include "dma-iova-test.h"
#include "dma-iova.h"

static u64 reported[DMA_IOVA_NR_REPORTS];

static int remember_reports(struct kunit *test)
{
	unsigned int what;

	if (!test_devices.alone || !test_devices.nr_movers ||
	    !test_devices.movers[0].domain)
		kunit_skip(
			test,
			"no iommu-testdev and edu, each alone behind an IOMMU");
	for (what = 0; what < DMA_IOVA_NR_REPORTS; what++)
		reported[what] = debug_dma_iova_reported(what);
	return 0;
}

/* Fails the test unless @times of @wanted and nothing else was reported since the case began. */
static void expect_reports(struct kunit *test, enum dma_iova_report wanted,
			   unsigned int times)
{
	unsigned int what;

	for (what = 0; what < DMA_IOVA_NR_REPORTS; what++)
		KUNIT_EXPECT_EQ_MSG(
			test, debug_dma_iova_reported(what) - reported[what],
			what == wanted ? times : 0, "reports of kind %u", what);
}

static void correct_use_is_not_reported(struct kunit *test)
{
	struct ref *ref = ref_create(test, test_devices.alone, 64);
	struct test_pool *pool = pool_create(test);
	unsigned int i;

	for (i = 0; i < 3; i++) {
		KUNIT_ASSERT_EQ(test, 0,
				ref_reserve(ref, 0x123, SZ_4K, SZ_64K, 0));
		KUNIT_EXPECT_EQ(test, 0,
				dma_iova_link(ref->device->dev, &ref->state,
					      pool->areas[0].phys + 0x123, 0,
					      SZ_64K, DMA_TO_DEVICE, 0));
		dma_iova_unlink(ref->device->dev, &ref->state, 0, SZ_4K,
				DMA_TO_DEVICE, 0);
		dma_iova_unlink(ref->device->dev, &ref->state, SZ_16K, SZ_4K,
				DMA_TO_DEVICE, 0);
		ref_destroy(ref);
	}
	expect_reports(test, DMA_IOVA_NR_REPORTS, 0);
}

static void linking_twice_is_reported(struct kunit *test)
{
	struct ref *ref = ref_create(test, test_devices.alone, 16);
	struct test_pool *pool = pool_create(test);
	struct device *dev = ref->device->dev;
	phys_addr_t phys = pool->areas[0].phys;
	u64 word = pfn_tag(PHYS_PFN(phys), PFN_TAG_READ, PFN_KIND_REGULAR);
	size_t done;

	KUNIT_ASSERT_EQ(test, 0, ref_reserve(ref, 0, SZ_4K, SZ_64K, 0));
	KUNIT_EXPECT_EQ(test, 0,
			dma_iova_link(dev, &ref->state, phys, SZ_4K, SZ_8K,
				      DMA_TO_DEVICE, 0));
	KUNIT_EXPECT_EQ(test, -EEXIST,
			dma_iova_link(dev, &ref->state, phys, SZ_8K, SZ_16K,
				      DMA_TO_DEVICE, 0));
	KUNIT_EXPECT_EQ(test, -EEXIST,
			dma_iova_link_pfns(dev, &ref->state, SZ_4K, &word, 1,
					   &done, GFP_KERNEL));
	expect_reports(test, DMA_IOVA_LINKED_TWICE, 2);
}

/* Freeing takes no links along by contract, so the range is emptied after the report. */
static void freeing_what_is_linked_is_reported(struct kunit *test)
{
	struct ref *ref = ref_create(test, test_devices.alone, 16);
	struct test_pool *pool = pool_create(test);
	struct dma_iova_state *state = &ref->state;

	KUNIT_ASSERT_EQ(test, 0, ref_reserve(ref, 0, SZ_4K, SZ_64K, 0));
	KUNIT_EXPECT_EQ(test, 0,
			dma_iova_link(ref->device->dev, state,
				      pool->areas[0].phys, SZ_4K, SZ_4K,
				      DMA_TO_DEVICE, 0));
	debug_dma_iova_free(ref->device->dev, state);
	expect_reports(test, DMA_IOVA_FREED_LINKED, 1);
	debug_dma_iova_reserve(ref->device->dev, state);
}

/* Through the wrong device, and through a state that was copied and freed. */
static void using_what_is_not_reserved_is_reported(struct kunit *test)
{
	struct ref *ref = ref_create(test, test_devices.alone, 16);
	struct device *other = test_devices.movers[0].dev;
	struct dma_iova_state copy;

	KUNIT_ASSERT_EQ(test, 0, ref_reserve(ref, 0, SZ_4K, SZ_64K, 0));
	copy = ref->state;
	dma_iova_unlink(other, &copy, 0, SZ_4K, DMA_TO_DEVICE, 0);
	expect_reports(test, DMA_IOVA_OUTSIDE, 1);
	ref_free(ref);
	dma_iova_unlink(test_devices.alone->dev, &copy, 0, SZ_4K, DMA_TO_DEVICE,
			0);
	expect_reports(test, DMA_IOVA_OUTSIDE, 2);
}

static void a_driver_that_leaves_a_range_is_reported(struct kunit *test)
{
	struct device *dev = test_devices.movers[0].dev;
	struct dma_iova_state state;

	KUNIT_ASSERT_EQ(test, 0,
			dma_iova_reserve(dev, &state, 0, SZ_4K, SZ_64K));
	device_release_driver(dev);
	expect_reports(test, DMA_IOVA_LEAKED, 1);
	/* The range is still there, though no longer known to the checker. */
	KUNIT_ASSERT_EQ(test, 1, device_attach(dev));
	debug_dma_iova_reserve(dev, &state);
	dma_iova_free(dev, &state);
	expect_reports(test, DMA_IOVA_LEAKED, 1);
}

static struct kunit_case dma_iova_debug_cases[] = {
	KUNIT_CASE(correct_use_is_not_reported),
	KUNIT_CASE(linking_twice_is_reported),
	KUNIT_CASE(freeing_what_is_linked_is_reported),
	KUNIT_CASE(using_what_is_not_reserved_is_reported),
	KUNIT_CASE(a_driver_that_leaves_a_range_is_reported),
	{}
};

static struct kunit_suite dma_iova_debug_suite = {
	.name = "dma_iova_debug",
	.suite_init = test_devices_get,
	.suite_exit = test_devices_put,
	.init = remember_reports,
	.test_cases = dma_iova_debug_cases,
};

kunit_test_suite(dma_iova_debug_suite);
