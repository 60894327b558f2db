// SPDX-License-Identifier: GPL-2.0
/*
 * Copyright (c) 2026 The Twostep authors
 *
 * KUnit tests of the two-step DMA core: a device that is not trusted.
 *
 * The writer is declared untrusted while a case runs. It must then never see or change a
 * byte outside of a mapping, though it reaches whole granules: the ends of a mapping that
 * fill theirs only partly go through bounce pages. Who cannot have that is refused.
 *
 * Needs bounce buffers, which a small machine has only with swiotlb=force.
 */

#include <linux/dma-mapping.h>
#include <linux/iommu.h>
#include <linux/pci.h>
#include <linux/swiotlb.h>

#include "dma-iova-test.h"

#define FILL 0x5a
#define WINDOW (8 * PAGE_SIZE)

static void trust(void *data)
{
	struct test_device *device = data;

	device->pdev->untrusted = false;
}

static int distrust(struct kunit *test)
{
	struct test_device *device = test_devices.alone;

	if (!device)
		kunit_skip(test,
			   "no iommu-testdev that is alone behind an IOMMU");
	if (!is_swiotlb_active(device->dev))
		kunit_skip(test, "no bounce buffers; boot with swiotlb=force");
	device->pdev->untrusted = true;
	return kunit_add_action_or_reset(test, trust, device);
}

static void users_that_cannot_bounce_are_refused(struct kunit *test)
{
	struct test_pool *pool = pool_create(test);
	struct ref *ref = ref_create(test, test_devices.alone, 16);
	struct run_list *list = kunit_kzalloc(test, sizeof(*list), GFP_KERNEL);
	struct device *dev = ref->device->dev;
	u64 word = pfn_tag(PHYS_PFN(pool->areas[0].phys), PFN_TAG_ACCESS,
			   PFN_KIND_REGULAR);
	size_t done = SIZE_MAX;

	KUNIT_ASSERT_NOT_NULL(test, list);
	KUNIT_EXPECT_EQ(test, -EOPNOTSUPP,
			dma_iova_reserve(dev, &ref->state, 0, SZ_4K, SZ_64K));
	KUNIT_EXPECT_FALSE(test, dma_use_iova(&ref->state));

	KUNIT_ASSERT_TRUE(test,
			  dma_iova_try_alloc(dev, &ref->state, 0, SZ_64K));
	ref_adopt(ref, 0, 0);
	KUNIT_EXPECT_EQ(test, -EOPNOTSUPP,
			dma_iova_link_pfns(dev, &ref->state, 0, &word, 1, &done,
					   GFP_KERNEL));
	KUNIT_EXPECT_EQ(test, 0, done);
	run_list_reset(list);
	list->nr = 1;
	list->run[0] = (struct dma_iova_run){ pool->areas[0].phys, 0, SZ_4K,
					      PFN_TAG_ACCESS };
	KUNIT_EXPECT_EQ(test, -EOPNOTSUPP,
			dma_iova_link_runs(dev, &ref->state, &list->iter,
					   GFP_KERNEL));
	KUNIT_EXPECT_EQ(test, 0, list->iter.runs);
	ref_holds(ref, "refusals");
}

static bool untouched(const u8 *from, const u8 *to)
{
	return from >= to || !memchr_inv(from, FILL, to - from);
}

/* The granule of an IOVA, as the device sees it. */
static u8 *seen(struct test_device *device, dma_addr_t iova)
{
	phys_addr_t phys =
		iommu_iova_to_phys(device->domain, ALIGN_DOWN(iova, PAGE_SIZE));

	return phys ? phys_to_virt(phys) : NULL;
}

/* Before a transfer to the device: the mapping's bytes, and of the granules nothing else. */
static void expect_seen(struct kunit *test, struct test_device *device,
			dma_addr_t iova, const u8 *memory, size_t size)
{
	dma_addr_t end = iova + size, at;
	u8 *page;

	for (at = iova; at < end; at = PAGE_ALIGN(at + 1)) {
		size_t first = offset_in_page(at),
		       behind = min(PAGE_SIZE, first + (end - at));

		page = seen(device, at);
		KUNIT_ASSERT_NOT_NULL(test, page);
		KUNIT_EXPECT_MEMEQ(test, page + first, memory + (at - iova),
				   behind - first);
		KUNIT_EXPECT_PTR_EQ(test, memchr_inv(page, 0, first), NULL);
		KUNIT_EXPECT_PTR_EQ(
			test, memchr_inv(page + behind, 0, PAGE_SIZE - behind),
			NULL);
	}
}

/* The device stores over all of its granules; memory has what lies in the mapping only. */
static void store_over_granules(struct kunit *test, struct test_device *device,
				dma_addr_t iova, size_t size)
{
	dma_addr_t at, end = PAGE_ALIGN(iova + size);

	for (at = ALIGN_DOWN(iova, PAGE_SIZE); at < end; at += PAGE_SIZE)
		KUNIT_EXPECT_EQ(test, 0,
				writer_stores(device, at,
					      virt_to_phys(seen(device, at)),
					      PAGE_SIZE));
}

static void expect_stored(struct kunit *test, const u8 *memory, size_t offset,
			  size_t size)
{
	size_t i, wrong = 0;

	KUNIT_EXPECT_TRUE(test, untouched(memory, memory + offset));
	KUNIT_EXPECT_TRUE(test,
			  untouched(memory + offset + size, memory + WINDOW));
	for (i = offset; i < offset + size; i++)
		wrong += memory[i] != (u8)(IOMMU_TESTDEV_WORD >> 8 * (i % 4));
	KUNIT_EXPECT_EQ_MSG(test, wrong, 0, "bytes of %zu at %zu", size,
			    offset);
}

static void one_mapping(struct kunit *test, struct test_device *device,
			u8 *memory, size_t offset, size_t size,
			enum dma_data_direction dir, bool destroy)
{
	struct dma_iova_state state = {};
	struct device *dev = device->dev;
	phys_addr_t phys = virt_to_phys(memory + offset);
	dma_addr_t iova;

	KUNIT_ASSERT_TRUE(test, dma_iova_try_alloc(dev, &state, phys, size));
	iova = state.addr;
	KUNIT_EXPECT_EQ(test, 0,
			dma_iova_link(dev, &state, phys, 0, size, dir, 0));
	KUNIT_EXPECT_EQ(test, 0, dma_iova_sync(dev, &state, 0, size));
	if (dir != DMA_FROM_DEVICE)
		expect_seen(test, device, iova, memory + offset, size);
	if (dir != DMA_TO_DEVICE)
		store_over_granules(test, device, iova, size);
	if (destroy) {
		dma_iova_destroy(dev, &state, size, dir, 0);
	} else {
		dma_iova_unlink(dev, &state, 0, size, dir, 0);
		dma_iova_free(dev, &state);
	}
	if (dir == DMA_TO_DEVICE)
		KUNIT_EXPECT_TRUE(test, untouched(memory, memory + WINDOW));
	else
		expect_stored(test, memory, offset, size);
	KUNIT_EXPECT_EQ(test, 0, iommu_iova_to_phys(device->domain, iova));
}

/* Devices that need their buffers aligned as the memory is, and those that do not care. */
static const unsigned int align_masks[] = { 0, 511, PAGE_SIZE - 1 };

static void mask_name(const unsigned int *mask, char *name)
{
	snprintf(name, KUNIT_PARAM_DESC_SIZE, "min_align_mask %u", *mask);
}

KUNIT_ARRAY_PARAM(mask, align_masks, mask_name);

static void edges_are_bounced_both_ways(struct kunit *test)
{
	static const size_t edges[] = { 0,	   4,
					512,	   PAGE_SIZE - 4,
					PAGE_SIZE, PAGE_SIZE + 64 };
	struct test_device *device = test_devices.alone;
	struct test_pool *pool = pool_create(test);
	u8 *memory = phys_to_virt(pool->areas[0].phys);
	struct rnd_state rnd;
	enum dma_data_direction dir;
	size_t offset, size, end;
	unsigned int i;
	long used;

	dma_set_min_align_mask(device->dev,
			       *(const unsigned int *)test->param_value);
	prandom_seed_state(&rnd, test_seed(test));
	used = atomic_long_read(&device->dev->dma_io_tlb_mem->total_used);
	for (i = 0; i < 240 && !test->status; i++) {
		offset = edges[i % ARRAY_SIZE(edges)];
		end = edges[i / ARRAY_SIZE(edges) % ARRAY_SIZE(edges)];
		size = i < 108 ? WINDOW - offset - end :
				 4 + below(&rnd, WINDOW - offset - 4);
		dir = i < 108 ? i / 36 : below(&rnd, 3);
		memset(memory, FILL, WINDOW);
		one_mapping(test, device, memory, offset, size, dir,
			    chance(&rnd, 50));
	}
	dma_set_min_align_mask(device->dev, 0);
	KUNIT_EXPECT_EQ(
		test, used,
		atomic_long_read(&device->dev->dma_io_tlb_mem->total_used));
}

/* The bounce page of an edge inside the range would be lost by whoever destroys it. */
static void edges_inside_the_range_are_refused(struct kunit *test)
{
	struct test_pool *pool = pool_create(test);
	struct ref *ref = ref_create(test, test_devices.alone, 16);
	struct device *dev = ref->device->dev;
	phys_addr_t phys = pool->areas[0].phys;
	long used = atomic_long_read(&dev->dma_io_tlb_mem->total_used);

	KUNIT_ASSERT_TRUE(test, dma_iova_try_alloc(dev, &ref->state, 0,
						   8 * PAGE_SIZE));
	ref_adopt(ref, 0, 0);
	KUNIT_EXPECT_EQ(test, -EINVAL,
			dma_iova_link(dev, &ref->state, phys + 512, 512,
				      SZ_4K - 512, DMA_FROM_DEVICE, 0));
	KUNIT_EXPECT_EQ(test, -EINVAL,
			dma_iova_link(dev, &ref->state, phys, SZ_4K, 512,
				      DMA_FROM_DEVICE, 0));
	ref_holds(ref, "refused edges");
	KUNIT_EXPECT_EQ(test, used,
			atomic_long_read(&dev->dma_io_tlb_mem->total_used));
	ref_free(ref);
}

/*
 * From byte 512 of granule 0 to byte 512 of granule 3, with one granule taken: the bounce page
 * of the head is given back, whether the head, the middle or the tail fails.
 */
static void a_refused_mapping_leaves_no_bounce_page(struct kunit *test)
{
	struct test_pool *pool = pool_create(test);
	struct ref *ref = ref_create(test, test_devices.alone, 16);
	struct device *dev = ref->device->dev;
	phys_addr_t phys = pool->areas[0].phys + 512;
	const size_t size = 3 * PAGE_SIZE;
	long before = atomic_long_read(&dev->dma_io_tlb_mem->total_used), used;
	size_t start, end;
	unsigned int i;

	KUNIT_ASSERT_TRUE(test,
			  dma_iova_try_alloc(dev, &ref->state, phys, size));
	ref_adopt(ref, 0, 0);
	for (i = 0; i < 4; i++) {
		start = i ? i * PAGE_SIZE - 512 : 0;
		end = min(size, (i + 1) * PAGE_SIZE - 512);
		KUNIT_EXPECT_EQ(test, 0,
				dma_iova_link(dev, &ref->state, phys + start,
					      start, end - start,
					      DMA_FROM_DEVICE, 0));
		ref_link(ref, i, 1,
			 iommu_iova_to_phys(ref->device->domain,
					    ref->base + i * PAGE_SIZE),
			 PFN_TAG_WRITE);
		used = atomic_long_read(&dev->dma_io_tlb_mem->total_used);
		KUNIT_EXPECT_EQ(test, -EEXIST,
				dma_iova_link(dev, &ref->state, phys, 0, size,
					      DMA_FROM_DEVICE, 0));
		ref_holds(ref, "a refused mapping");
		KUNIT_EXPECT_EQ(
			test, used,
			atomic_long_read(&dev->dma_io_tlb_mem->total_used));
		dma_iova_unlink(dev, &ref->state, start, end - start,
				DMA_FROM_DEVICE, 0);
		ref->at[i] = (struct ref_granule){};
	}
	KUNIT_EXPECT_EQ(test, before,
			atomic_long_read(&dev->dma_io_tlb_mem->total_used));
	ref_free(ref);
}

static struct kunit_case dma_iova_bounce_cases[] = {
	KUNIT_CASE(users_that_cannot_bounce_are_refused),
	KUNIT_CASE_PARAM(edges_are_bounced_both_ways, mask_gen_params),
	KUNIT_CASE(edges_inside_the_range_are_refused),
	KUNIT_CASE(a_refused_mapping_leaves_no_bounce_page),
	{}
};

static struct kunit_suite dma_iova_bounce_suite = {
	.name = "dma_iova_bounce",
	.suite_init = test_devices_get,
	.suite_exit = test_devices_put,
	.init = distrust,
	.test_cases = dma_iova_bounce_cases,
};

kunit_test_suite(dma_iova_bounce_suite);
