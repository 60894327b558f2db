// SPDX-License-Identifier: GPL-2.0
/*
 * Copyright (c) 2026 The Twostep authors
 *
 * KUnit tests of the two-step DMA core (linux/dma-iova.h): what a device reaches.
 *
 * The model is in dma-iova-test.h. The suites, each in its file: dma_iova here; _ranges,
 * _entries, _random, _together, _group, _flush, _bounce, _debug, _fail. They need QEMU's
 * test devices (-device iommu-testdev -device edu,dma_mask=0xffffffffffffffff) behind an
 * IOMMU; without them their cases skip.
 *
 * Parameters (dma_iova_test.NAME=): seed, 0 for a new one each time; steps, of a random
 * sequence; ranges, how many live at once at most.
 */

#include <linux/dma-mapping.h>
#include <linux/iommu.h>
#include <linux/limits.h>
#include <linux/moduleparam.h>
#include <linux/pci.h>
#include <linux/random.h>

#include "dma-iova-test.h"

static ulong seed;
module_param(seed, ulong, 0644);
MODULE_PARM_DESC(seed, "seed of everything random, 0: a new one each time");

static uint steps = 1000;
module_param(steps, uint, 0644);
MODULE_PARM_DESC(steps, "steps of a random sequence");

static uint ranges = 100000;
module_param(ranges, uint, 0644);
MODULE_PARM_DESC(ranges, "ranges that live at once");

/**
 * test_seed() - what decides all that is random in a case
 * @test: the case
 *
 * Return: the seed, which was printed.
 */
u64 test_seed(struct kunit *test)
{
	u64 chosen = seed ?: get_random_u32();

	kunit_info(test, "seed %llu", chosen);
	return chosen;
}

/**
 * test_steps() - how long a random sequence is
 *
 * Return: steps.
 */
unsigned int test_steps(void)
{
	return steps;
}

/**
 * test_ranges() - how many ranges are to live at once
 *
 * Return: ranges.
 */
unsigned int test_ranges(void)
{
	return ranges;
}

/**
 * test_needs_alone() - skip a case without a writer alone in its domain; init of a suite
 * @test: the case
 *
 * Return: 0.
 */
int test_needs_alone(struct kunit *test)
{
	if (!test_devices.alone)
		kunit_skip(test,
			   "no iommu-testdev that is alone behind an IOMMU");
	return 0;
}

static void *at(phys_addr_t phys)
{
	return phys_to_virt(phys);
}

/*
 * The faults are planted here, not in the core: that the table and the devices notice is
 * what every other case rests on.
 */
static void notices_a_wrong_frame(struct kunit *test)
{
	struct test_pool *pool = pool_create(test);
	struct ref *ref = ref_fresh(test, 16, PAGE_SIZE);
	phys_addr_t right = pool->areas[POOL_BLOCKS].phys;
	phys_addr_t wrong = pool->areas[POOL_BLOCKS + 1].phys;
	unsigned int i;

	for (i = 0; i < 8; i++)
		ref_link_page(ref, i, (i == 5 ? wrong : right) + i * PAGE_SIZE,
			      PFN_TAG_ACCESS);
	KUNIT_EXPECT_EQ(test, ref_mismatch(ref), INT_MAX);
	ref_link(ref, 5, 1, right + 5 * PAGE_SIZE, PFN_TAG_ACCESS);
	KUNIT_EXPECT_EQ(test, ref_mismatch(ref), 5);
	KUNIT_EXPECT_EQ(test, -EIO,
			writer_stores(ref->device, ref_iova(ref, 5),
				      right + 5 * PAGE_SIZE, 4));
	KUNIT_EXPECT_EQ(test, *(u32 *)at(wrong + 5 * PAGE_SIZE),
			IOMMU_TESTDEV_WORD);
	KUNIT_EXPECT_EQ(test, *(u32 *)at(right + 5 * PAGE_SIZE), 0);
	KUNIT_EXPECT_EQ(test, 0,
			writer_stores(ref->device, ref_iova(ref, 4),
				      right + 4 * PAGE_SIZE, 4));
	ref_link(ref, 5, 1, wrong + 5 * PAGE_SIZE, PFN_TAG_ACCESS);
}

static void notices_a_link_too_many_or_few(struct kunit *test)
{
	struct test_pool *pool = pool_create(test);
	struct ref *ref = ref_fresh(test, 16, PAGE_SIZE);
	struct ref_granule saved;

	ref_link_page(ref, 3, pool->areas[0].phys, PFN_TAG_READ);
	saved = ref->at[3];
	ref->at[3].phys = 0;
	KUNIT_EXPECT_EQ(test, ref_mismatch(ref), 3);
	ref->at[3] = saved;
	ref->at[4].phys = PAGE_SIZE;
	KUNIT_EXPECT_EQ(test, ref_mismatch(ref), 4);
	ref->at[4].phys = 0;
	ref_link_page(ref, 15, pool->areas[1].phys, PFN_TAG_READ);
	ref->nr = 15;
	KUNIT_EXPECT_EQ(test, ref_mismatch(ref), 15);
	ref->nr = 16;
	KUNIT_EXPECT_EQ(test, ref_mismatch(ref), INT_MAX);
}

static const u64 all_access[] = { PFN_TAG_READ, PFN_TAG_WRITE, PFN_TAG_ACCESS };

static void stores_obey_rights(struct kunit *test)
{
	struct test_pool *pool = pool_create(test);
	struct ref *ref = ref_fresh(test, 1024, SZ_2M);
	unsigned int i, entry;
	size_t done;

	for (i = 0; i < 6; i++)
		ref_link_page(ref, i,
			      pool->areas[POOL_BLOCKS].phys + i * PAGE_SIZE,
			      all_access[i % 3]);
	for (i = 0; i < 512; i++)
		ref->words[512 + i] = pfn_tag(PHYS_PFN(pool->areas[0].phys) + i,
					      PFN_TAG_READ, PFN_KIND_REGULAR);
	KUNIT_ASSERT_EQ(test, 0,
			dma_iova_link_pfns(ref->device->dev, &ref->state,
					   ref_offset(ref, 512),
					   ref->words + 512, 512, &done,
					   GFP_KERNEL));
	ref_link(ref, 512, 512, pool->areas[0].phys, PFN_TAG_READ);
	entry = ref->at[512].behind - ref->at[512].first;
	KUNIT_EXPECT_EQ(test, entry, 512);

	iommu_testdev_faults_begin();
	for (i = 0; i < 6; i++)
		ref_probe(ref, i, 0xffc);
	ref_probe(ref, 6, 0);
	ref_probe(ref, 512, 0);
	ref_probe(ref, 1023, 0xffc);
	iommu_testdev_faults_end();
	ref_holds(ref, "stores");
}

/* Once a store was translated the IOTLB knows the page: only a flush takes that back. */
static void unlink_ends_the_devices_reach(struct kunit *test)
{
	struct test_pool *pool = pool_create(test);
	struct ref *ref = ref_fresh(test, 1024, SZ_2M);
	struct device *dev = ref->device->dev;
	phys_addr_t block = pool->areas[0].phys;
	struct run_list *list = kunit_kzalloc(test, sizeof(*list), GFP_KERNEL);
	unsigned int round, first = 0, behind = 0;

	KUNIT_ASSERT_NOT_NULL(test, list);
	iommu_testdev_faults_begin();
	for (round = 0; round < 12; round++) {
		first = round % 4 == 3 ? 0 : 7 * round;
		behind = round % 4 == 3 ? 512 : first + 1 + round;
		run_list_reset(list);
		list->nr = 1;
		list->run[0] = (struct dma_iova_run){
			.phys = block + first * PAGE_SIZE,
			.offset = ref_offset(ref, first),
			.len = (behind - first) * PAGE_SIZE,
			.access = PFN_TAG_ACCESS,
		};
		KUNIT_EXPECT_EQ(test, 0,
				dma_iova_link_runs(dev, &ref->state,
						   &list->iter, GFP_KERNEL));
		ref_link(ref, first, behind - first, list->run[0].phys,
			 PFN_TAG_ACCESS);
		ref_probe(ref, first, 0);
		ref_probe(ref, behind - 1, 0xffc);
		list->at = 0;
		if (round & 1)
			dma_iova_unlink_runs(dev, &ref->state, &list->iter);
		else
			dma_iova_unlink(dev, &ref->state, list->run[0].offset,
					list->run[0].len, DMA_BIDIRECTIONAL, 0);
		memset(at(block), 0, SZ_2M);
		KUNIT_EXPECT_EQ(test, -EACCES,
				writer_stores(ref->device, ref_iova(ref, first),
					      block, 4));
		KUNIT_EXPECT_EQ(test, -EACCES,
				writer_stores(ref->device,
					      ref_iova(ref, behind) - 4, block,
					      4));
		KUNIT_EXPECT_PTR_EQ(test, memchr_inv(at(block), 0, SZ_2M),
				    NULL);
		ref_unlink(ref, &first, &behind);
		ref_holds(ref, "unlink");
	}
	iommu_testdev_faults_end();
}

/* Bytes, both ways, by a device that moves real data: exactly those, and only with the right. */
static void a_device_moves_exactly_the_bytes(struct kunit *test)
{
	struct test_pool *pool = pool_create(test);
	struct test_device *mover = &test_devices.movers[0];
	struct ref *ref;
	u8 *page[3];
	u32 i;

	if (!test_devices.nr_movers || !mover->domain)
		kunit_skip(test, "no edu device behind an IOMMU");
	ref = ref_create(test, mover, 16);
	KUNIT_ASSERT_EQ(test, 0,
			ref_reserve(ref, 0, PAGE_SIZE, 16 * PAGE_SIZE, 0));
	for (i = 0; i < 3; i++) {
		ref_link_page(ref, i, pool->areas[POOL_BLOCKS + i].phys,
			      all_access[i]);
		page[i] = at(pool->areas[POOL_BLOCKS + i].phys);
		memset(page[i], 0x11 * (i + 1), PAGE_SIZE);
	}
	get_random_bytes(page[0], PAGE_SIZE);

	/* Fetched from a page it may read, stored to one that it may write. */
	KUNIT_ASSERT_TRUE(test, mover_copies(mover, ref_iova(ref, 0) + 5, 0,
					     1000, false));
	KUNIT_ASSERT_TRUE(test, mover_copies(mover, ref_iova(ref, 1) + 77, 0,
					     1000, true));
	KUNIT_EXPECT_MEMEQ(test, page[1] + 77, page[0] + 5, 1000);
	KUNIT_EXPECT_PTR_EQ(test, memchr_inv(page[1], 0x22, 77), NULL);
	KUNIT_EXPECT_PTR_EQ(
		test, memchr_inv(page[1] + 1077, 0x22, PAGE_SIZE - 1077), NULL);

	iommu_testdev_faults_begin();
	/* Not stored to one that it may only read, nor to one that is not linked any more. */
	memset(page[0], 0x44, PAGE_SIZE);
	memset(page[2], 0x44, PAGE_SIZE);
	dma_iova_unlink(mover->dev, &ref->state, ref_offset(ref, 2), PAGE_SIZE,
			DMA_BIDIRECTIONAL, 0);
	KUNIT_ASSERT_TRUE(test,
			  mover_copies(mover, ref_iova(ref, 0), 0, 1000, true));
	KUNIT_ASSERT_TRUE(test,
			  mover_copies(mover, ref_iova(ref, 2), 0, 1000, true));
	KUNIT_EXPECT_PTR_EQ(test, memchr_inv(page[0], 0x44, PAGE_SIZE), NULL);
	KUNIT_EXPECT_PTR_EQ(test, memchr_inv(page[2], 0x44, PAGE_SIZE), NULL);
	iommu_testdev_faults_end();
}

/* As drivers that were written for mainline call it, from an odd byte to an odd byte. */
static void try_alloc_maps_odd_bytes(struct kunit *test)
{
	struct test_pool *pool = pool_create(test);
	struct ref *ref = ref_create(test, test_devices.alone, 64);
	struct device *dev = ref->device->dev;
	phys_addr_t phys = pool->areas[0].phys + 0x7c4;
	size_t first = 3 * PAGE_SIZE - 0x7c4,
	       size = first + 2 * PAGE_SIZE + 0x100;
	phys_addr_t rest = pool->areas[1].phys;

	KUNIT_ASSERT_TRUE(test, dma_need_unmap(dev));
	KUNIT_ASSERT_TRUE(test,
			  dma_iova_try_alloc(dev, &ref->state, phys, size));
	KUNIT_EXPECT_TRUE(test, dma_use_iova(&ref->state));
	KUNIT_EXPECT_EQ(test, dma_iova_size(&ref->state), size);
	KUNIT_EXPECT_EQ(test, offset_in_page(ref->state.addr), 0x7c4);
	ref_adopt(ref, 0, 0);
	KUNIT_EXPECT_EQ(test, ref->nr, 6);

	KUNIT_EXPECT_EQ(test, 0,
			dma_iova_link(dev, &ref->state, phys, 0, first,
				      DMA_FROM_DEVICE, 0));
	KUNIT_EXPECT_EQ(test, 0,
			dma_iova_link(dev, &ref->state, rest, first,
				      size - first, DMA_FROM_DEVICE, 0));
	KUNIT_EXPECT_EQ(test, 0, dma_iova_sync(dev, &ref->state, 0, size));
	ref_link(ref, 0, 3, phys - 0x7c4, PFN_TAG_WRITE);
	ref_link(ref, 3, 3, rest, PFN_TAG_WRITE);
	ref_holds(ref, "two links");
	KUNIT_EXPECT_EQ(test, 0,
			writer_stores(ref->device, ref->state.addr, phys,
				      first));
	KUNIT_EXPECT_EQ(test, 0,
			writer_stores(ref->device, ref->state.addr + first,
				      rest, size - first));
	KUNIT_EXPECT_EQ(test, *(u8 *)at(phys - 1), 0);
	KUNIT_EXPECT_EQ(test, *(u8 *)at(rest + size - first), 0);

	dma_iova_destroy(dev, &ref->state, size, DMA_FROM_DEVICE, 0);
	KUNIT_EXPECT_FALSE(test, dma_use_iova(&ref->state));
	KUNIT_EXPECT_EQ(test, dma_iova_size(&ref->state), 0);
	memset(ref->at, 0, 6 * sizeof(*ref->at));
	ref_holds(ref, "destroy");
}

/* A peer's register, by both ways that lead to one. */
static void mmio_is_reached(struct kunit *test)
{
	struct test_device *mover = &test_devices.movers[0];
	struct device *dev = test_devices.alone->dev;
	struct ref *ref = ref_fresh(test, 16, SZ_4K);
	phys_addr_t bar;
	dma_addr_t iova;

	if (!test_devices.nr_movers)
		kunit_skip(test, "no edu device");
	bar = pci_resource_start(mover->pdev, 0);
	KUNIT_EXPECT_EQ(test, 0,
			dma_iova_link(dev, &ref->state, bar, 0, PAGE_SIZE,
				      DMA_BIDIRECTIONAL, DMA_ATTR_MMIO));
	KUNIT_EXPECT_EQ(test, 0, dma_iova_sync(dev, &ref->state, 0, PAGE_SIZE));
	ref_link(ref, 0, 1, bar, PFN_TAG_ACCESS);
	ref_holds(ref, "a BAR");
	/* The register at 4 gives back the inverse of what was written. */
	iowrite32(0, mover->bar + 4);
	writer_stores(ref->device, ref_iova(ref, 0) + 4, bar + 4, 4);
	KUNIT_EXPECT_EQ(test, ioread32(mover->bar + 4), ~IOMMU_TESTDEV_WORD);
	dma_iova_unlink(dev, &ref->state, 0, PAGE_SIZE, DMA_BIDIRECTIONAL,
			DMA_ATTR_MMIO);
	ref->at[0] = (struct ref_granule){};
	ref_holds(ref, "a BAR no more");

	iova = dma_map_phys(dev, bar, PAGE_SIZE, DMA_BIDIRECTIONAL,
			    DMA_ATTR_MMIO);
	KUNIT_ASSERT_EQ(test, 0, dma_mapping_error(dev, iova));
	KUNIT_EXPECT_EQ(test, iommu_iova_to_phys(ref->device->domain, iova),
			bar);
	iowrite32(0, mover->bar + 4);
	writer_stores(ref->device, iova + 4, bar + 4, 4);
	KUNIT_EXPECT_EQ(test, ioread32(mover->bar + 4), ~IOMMU_TESTDEV_WORD);
	dma_unmap_phys(dev, iova, PAGE_SIZE, DMA_BIDIRECTIONAL, DMA_ATTR_MMIO);
	KUNIT_EXPECT_EQ(test, iommu_iova_to_phys(ref->device->domain, iova), 0);
}

static void map_phys_maps_odd_bytes(struct kunit *test)
{
	struct device *dev = test_devices.alone->dev;
	struct test_pool *pool = pool_create(test);
	phys_addr_t phys = pool->areas[0].phys + 0x804;
	size_t size = 3 * PAGE_SIZE;
	dma_addr_t iova;

	iova = dma_map_phys(dev, phys, size, DMA_FROM_DEVICE, 0);
	KUNIT_ASSERT_EQ(test, 0, dma_mapping_error(dev, iova));
	KUNIT_EXPECT_EQ(test, offset_in_page(iova), 0x804);
	KUNIT_EXPECT_EQ(test, 0,
			writer_stores(test_devices.alone, iova, phys, size));
	KUNIT_EXPECT_EQ(test, *(u32 *)at(phys), IOMMU_TESTDEV_WORD);
	KUNIT_EXPECT_EQ(test, *(u32 *)at(phys - 4), 0);
	KUNIT_EXPECT_EQ(test, *(u32 *)at(phys + size), 0);
	dma_unmap_phys(dev, iova, size, DMA_FROM_DEVICE, 0);
	KUNIT_EXPECT_EQ(
		test, iommu_iova_to_phys(test_devices.alone->domain, iova), 0);
}

static struct kunit_case dma_iova_cases[] = {
	KUNIT_CASE(notices_a_wrong_frame),
	KUNIT_CASE(notices_a_link_too_many_or_few),
	KUNIT_CASE(stores_obey_rights),
	KUNIT_CASE(unlink_ends_the_devices_reach),
	KUNIT_CASE(a_device_moves_exactly_the_bytes),
	KUNIT_CASE(try_alloc_maps_odd_bytes),
	KUNIT_CASE(mmio_is_reached),
	KUNIT_CASE(map_phys_maps_odd_bytes),
	{}
};

static struct kunit_suite dma_iova_suite = {
	.name = "dma_iova",
	.suite_init = test_devices_get,
	.suite_exit = test_devices_put,
	.init = test_needs_alone,
	.test_cases = dma_iova_cases,
};

kunit_test_suite(dma_iova_suite);
