// SPDX-License-Identifier: GPL-2.0
/*
 * Copyright (c) 2026 The Twostep authors
 *
 * KUnit tests of the two-step DMA core: the reference.
 *
 * A table with one line per granule, written by the rules of linux/dma-iova.h. Its only
 * cleverness is the size of entries: with page tables, the largest page that the IOVA, the
 * address, the rest of the run and the range's order allow; without, what one run has
 * inside an aligned 2 MiB of IOVA. That decides what an unlink takes along.
 *
 * The lines are compared with iommu_iova_to_phys(), which the core never calls for ranges
 * that do not bounce, and, for a few of them, with what a device's store does.
 */

#include <linux/gfp.h>
#include <linux/io.h>
#include <linux/iommu.h>
#include <linux/mm.h>
#include <linux/mmzone.h>
#include <linux/overflow.h>
#include <linux/percpu.h>
#include <linux/slab.h>
#include <linux/sort.h>

#include "dma-iova-test.h"

/* Granules on either side of the table that nothing may be linked in. */
#define NEIGHBOURS 8

static void pool_free(void *data)
{
	struct test_pool *pool = data;
	unsigned int i;

	for (i = 0; i < POOL_AREAS; i++)
		if (pool->areas[i].phys)
			free_pages((unsigned long)phys_to_virt(
					   pool->areas[i].phys),
				   get_order(pool->areas[i].size));
}

/**
 * pool_create() - memory for links
 * @test: the test that it lives as long as
 *
 * Return: the pool; the test fails here if memory is short.
 */
struct test_pool *pool_create(struct kunit *test)
{
	struct test_pool *pool = kunit_kzalloc(test, sizeof(*pool), GFP_KERNEL);
	unsigned long page;
	unsigned int i;
	size_t size;

	KUNIT_ASSERT_NOT_NULL(test, pool);
	KUNIT_ASSERT_EQ(test, 0,
			kunit_add_action_or_reset(test, pool_free, pool));
	for (i = 0; i < POOL_AREAS; i++) {
		size = i < POOL_BLOCKS		     ? SZ_2M :
		       i < POOL_BLOCKS + POOL_CHUNKS ? SZ_64K :
						       PAGE_SIZE;
		page = __get_free_pages(GFP_KERNEL | __GFP_ZERO,
					get_order(size));
		KUNIT_ASSERT_NE(test, page, 0UL);
		pool->areas[i].phys = virt_to_phys((void *)page);
		pool->areas[i].size = size;
	}
	return pool;
}

static void ref_release(void *data)
{
	struct ref *ref = data;

	if (dma_use_iova(&ref->state))
		ref_destroy(ref);
	kvfree(ref->words);
	kvfree(ref->at);
}

/**
 * ref_create() - a reference without a range yet
 * @test: the test that it lives as long as
 * @device: the device
 * @nr: granules that the table has at most
 *
 * Return: the reference; the test fails here if memory is short.
 */
struct ref *ref_create(struct kunit *test, struct test_device *device,
		       unsigned int nr)
{
	struct ref *ref = kunit_kzalloc(test, sizeof(*ref), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, ref);
	ref->test = test;
	ref->device = device;
	ref->granule = 1UL << __ffs(device->domain->pgsize_bitmap);
	ref->nr = nr;
	ref->neighbours = true;
	ref->at = kvcalloc(nr, sizeof(*ref->at), GFP_KERNEL);
	ref->words = kvcalloc(nr, sizeof(*ref->words), GFP_KERNEL);
	KUNIT_ASSERT_EQ(test, 0,
			kunit_add_action_or_reset(test, ref_release, ref));
	KUNIT_ASSERT_NOT_NULL(test, ref->at);
	KUNIT_ASSERT_NOT_NULL(test, ref->words);
	return ref;
}

/**
 * ref_adopt() - lay the table over a range that was reserved
 * @ref: the reference with a range in @ref->state
 * @skip: bytes of the range before the table
 * @order: log2 of the largest entry, 0: any
 */
void ref_adopt(struct ref *ref, size_t skip, unsigned int order)
{
	dma_addr_t end = ref->state.addr + dma_iova_size(&ref->state);

	ref->base = ALIGN_DOWN(ref->state.addr + skip, ref->granule);
	ref->order = order;
	ref->nr = min_t(u64, ref->nr,
			DIV_ROUND_UP(end - ref->base, ref->granule));
}

/**
 * ref_reserve() - reserve a range for the reference
 * @ref: a reference without a range
 * @like: see dma_iova_reserve()
 * @modulo: see dma_iova_reserve()
 * @size: see dma_iova_reserve()
 * @skip: bytes of the range before the table
 *
 * Return: what dma_iova_reserve() returned.
 */
int ref_reserve(struct ref *ref, u64 like, size_t modulo, size_t size,
		size_t skip)
{
	int ret = dma_iova_reserve(ref->device->dev, &ref->state, like, modulo,
				   size);

	if (!ret)
		ref_adopt(ref, skip, __ffs(modulo));
	return ret;
}

/**
 * ref_free() - free a range in which nothing is linked
 * @ref: the reference
 */
void ref_free(struct ref *ref)
{
	dma_iova_free(ref->device->dev, &ref->state);
	memset(&ref->state, 0, sizeof(ref->state));
}

static bool list_next(struct dma_iova_iter *iter, struct dma_iova_run *run)
{
	struct run_list *list = container_of(iter, struct run_list, iter);

	if (list->at == list->nr)
		return false;
	*run = list->run[list->at++];
	return true;
}

static void list_widened(struct dma_iova_iter *iter, size_t offset, size_t len)
{
	struct run_list *list = container_of(iter, struct run_list, iter);

	/* One more than there is room for cannot come of these runs: it fails the test. */
	if (list->nr_widened == ARRAY_SIZE(list->widened))
		return;
	list->widened[list->nr_widened].run = list->at - 1;
	list->widened[list->nr_widened].offset = offset;
	list->widened[list->nr_widened].len = len;
	list->nr_widened++;
}

/**
 * run_list_reset() - make a list of runs empty
 * @list: the list
 */
void run_list_reset(struct run_list *list)
{
	memset(list, 0, sizeof(*list));
	list->iter.next = list_next;
	list->iter.widened = list_widened;
}

/**
 * ref_destroy() - unlink all of a range and free it
 * @ref: the reference
 */
void ref_destroy(struct ref *ref)
{
	struct run_list *list =
		kvzalloc(sizeof(*list), GFP_KERNEL | __GFP_NOFAIL);

	run_list_reset(list);
	list->nr = 1;
	list->run[0].len = dma_iova_size(&ref->state);
	dma_iova_unlink_runs(ref->device->dev, &ref->state, &list->iter);
	kvfree(list);
	ref_free(ref);
	memset(ref->at, 0, array_size(ref->nr, sizeof(*ref->at)));
	memset(ref->words, 0, array_size(ref->nr, sizeof(*ref->words)));
}

/**
 * ref_granules() - granules that bytes of a range touch
 * @ref: the reference
 * @offset: the first byte
 * @len: how many
 * @first: out: the first granule
 * @behind: out: the granule behind the last
 */
void ref_granules(const struct ref *ref, size_t offset, size_t len,
		  unsigned int *first, unsigned int *behind)
{
	dma_addr_t iova = ref->state.addr + offset;

	*first = (ALIGN_DOWN(iova, ref->granule) - ref->base) / ref->granule;
	*behind = (ALIGN(iova + len, ref->granule) - ref->base) / ref->granule;
}

static size_t entry_size(const struct ref *ref, dma_addr_t iova,
			 phys_addr_t phys, size_t left)
{
	unsigned long sizes = ref->device->domain->pgsize_bitmap;
	unsigned int order;

	if (!test_devices.tables)
		return min(left, SZ_2M - iova % SZ_2M);
	for (order = __fls(min_t(u64, left, SZ_1G)); order > __ffs(sizes);
	     order--)
		if (sizes & BIT(order) &&
		    (!ref->order || order <= ref->order) &&
		    !((iova | phys) & (BIT(order) - 1)))
			return BIT(order);
	return ref->granule;
}

/**
 * ref_link() - note that a run was linked
 * @ref: the reference
 * @first: its first granule
 * @nr: granules
 * @phys: address of the first
 * @access: rights
 */
void ref_link(struct ref *ref, unsigned int first, unsigned int nr,
	      phys_addr_t phys, u64 access)
{
	unsigned int behind = first + nr, i, j, size;

	for (i = first; i < behind; i += size) {
		size = entry_size(ref, ref_iova(ref, i), phys,
				  (size_t)(behind - i) * ref->granule) /
		       ref->granule;
		for (j = i; j < i + size; j++, phys += ref->granule)
			ref->at[j] = (struct ref_granule){
				.phys = phys,
				.first = i,
				.behind = i + size,
				.access = access & PFN_TAG_ACCESS,
			};
	}
}

/**
 * word_links() - whether dma_iova_link_pfns() has something to link for a word
 * @word: the word
 *
 * Return: whether.
 */
bool word_links(u64 word)
{
	enum pfn_tag_kind kind = pfn_tag_kind(word);

	return word & PFN_TAG_ACCESS && !(word & PFN_TAG_MAPPED) &&
	       (kind == PFN_KIND_REGULAR || kind == PFN_KIND_P2P_BRIDGE);
}

/**
 * word_continues() - whether a word continues the run of the one before it
 * @words: the words
 * @i: which
 * @first: the first of the call
 *
 * Return: whether.
 */
bool word_continues(const u64 *words, unsigned int i, unsigned int first)
{
	return i > first && word_links(words[i - 1]) && word_links(words[i]) &&
	       words[i] == words[i - 1] + 1;
}

/**
 * ref_link_words() - note that words were linked
 * @ref: the reference
 * @before: the words before the call, one for each granule of the table
 * @first: the first that was linked
 * @nr: how many
 *
 * Return: how many runs began with an entry of more than a granule.
 */
unsigned int ref_link_words(struct ref *ref, const u64 *before,
			    unsigned int first, unsigned int nr)
{
	unsigned int i, j, large = 0;

	for (i = first; i < first + nr; i = j) {
		j = i + 1;
		if (!word_links(before[i]))
			continue;
		while (j < first + nr && word_continues(before, j, first))
			j++;
		ref_link(ref, i, j - i, pfn_tag_phys(before[i]), before[i]);
		large += ref->at[i].behind - ref->at[i].first > 1;
	}
	return large;
}

/**
 * ref_unlink() - note that granules were unlinked
 * @ref: the reference
 * @first: in: the first; out: the first of the entry that it belonged to
 * @behind: in: behind the last; out: behind the entry that the last belonged to
 *
 * They are no longer linked either.
 */
void ref_unlink(struct ref *ref, unsigned int *first, unsigned int *behind)
{
	unsigned int i;

	if (ref->at[*behind - 1].phys)
		*behind = ref->at[*behind - 1].behind;
	if (ref->at[*first].phys)
		*first = ref->at[*first].first;
	for (i = *first; i < *behind; i++) {
		ref->at[i] = (struct ref_granule){};
		ref->words[i] &= ~PFN_TAG_MAPPED;
	}
}

/**
 * ref_empty() - whether nothing is linked between two granules
 * @ref: the reference
 * @first: the first
 * @behind: behind the last
 *
 * Return: whether.
 */
bool ref_empty(const struct ref *ref, unsigned int first, unsigned int behind)
{
	unsigned int i;

	for (i = first; i < behind; i++)
		if (ref->at[i].phys)
			return false;
	return true;
}

/**
 * ref_linked() - how many granules are linked
 * @ref: the reference
 *
 * Return: the number.
 */
unsigned int ref_linked(const struct ref *ref)
{
	unsigned int i, linked = 0;

	for (i = 0; i < ref->nr; i++)
		linked += !!ref->at[i].phys;
	return linked;
}

static phys_addr_t expected(const struct ref *ref, int i)
{
	return i >= 0 && i < ref->nr ? ref->at[i].phys : 0;
}

/**
 * ref_mismatch() - compare every granule with the IOMMU
 * @ref: the reference
 *
 * Return: the first that differs (-NEIGHBOURS is the lowest), INT_MAX if none does.
 */
int ref_mismatch(const struct ref *ref)
{
	int margin = ref->neighbours ? NEIGHBOURS : 0;
	int i;

	for (i = -margin; i < (int)ref->nr + margin; i++)
		if (iommu_iova_to_phys(ref->device->domain,
				       ref->base + i * (s64)ref->granule) !=
		    expected(ref, i))
			return i;
	return INT_MAX;
}

/**
 * ref_holds() - fail the test if a granule differs from the IOMMU
 * @ref: the reference
 * @after: what was done last
 *
 * Return: whether none does.
 */
bool ref_holds(const struct ref *ref, const char *after)
{
	int i = ref_mismatch(ref);
	dma_addr_t iova;

	if (i == INT_MAX)
		return true;
	iova = ref->base + i * (s64)ref->granule;
	KUNIT_FAIL(
		ref->test,
		"after %s: granule %d of %u, IOVA %llx: %llx instead of %llx",
		after, i, ref->nr, (u64)iova,
		(u64)iommu_iova_to_phys(ref->device->domain, iova),
		(u64)expected(ref, i));
	return false;
}

/**
 * ref_probe() - have the device store a word, and look whether it may
 * @ref: the reference; its device is a writer
 * @i: the granule, which is memory if it is linked
 * @at: offset of the word in it
 *
 * Between iommu_testdev_faults_begin() and iommu_testdev_faults_end().
 *
 * Return: whether the word arrived if the device has the right, and did not otherwise.
 */
bool ref_probe(struct ref *ref, unsigned int i, u32 at)
{
	const struct ref_granule *granule = &ref->at[i];
	int wanted = granule->access & PFN_TAG_WRITE ? 0 : -EACCES;
	u32 *word = granule->phys ? phys_to_virt(granule->phys + at) : NULL;
	u32 before = wanted ? 0x0badf00d : 0;
	int got;

	if (word)
		WRITE_ONCE(*word, before);
	got = writer_stores(ref->device, ref_iova(ref, i) + at,
			    granule->phys + at, sizeof(*word));
	if (got != wanted ||
	    (word &&
	     READ_ONCE(*word) != (wanted ? before : IOMMU_TESTDEV_WORD))) {
		KUNIT_FAIL(
			ref->test,
			"a store to granule %u (phys %llx, access %llx): %d instead of %d, memory %x",
			i, (u64)granule->phys, granule->access >> 62, got,
			wanted, word ? READ_ONCE(*word) : 0);
		return false;
	}
	return true;
}

static int by_address(const void *a, const void *b)
{
	const struct dma_iova_state *left = a, *right = b;

	return left->addr < right->addr ? -1 : left->addr > right->addr;
}

/**
 * table_pages() - pages in I/O page tables
 *
 * Exact, unlike global_node_page_state(), while nobody allocates or frees any.
 *
 * Return: the number.
 */
long table_pages(void)
{
	struct pglist_data *node;
	long pages = 0;
	int cpu;

	for_each_online_pgdat(node) {
		pages += node_page_state(node, NR_IOMMU_PAGES);
		for_each_online_cpu(cpu)
			pages += per_cpu_ptr(node->per_cpu_nodestats, cpu)
					 ->vm_node_stat_diff[NR_IOMMU_PAGES];
	}
	return pages;
}

/**
 * expect_apart() - fail the test if ranges that live at once share a granule
 * @test: the test
 * @states: the ranges; are sorted
 * @nr: how many
 */
void expect_apart(struct kunit *test, struct dma_iova_state *states,
		  unsigned int nr)
{
	u64 end = 0;
	unsigned int i;

	sort(states, nr, sizeof(*states), by_address, NULL);
	for (i = 0; i < nr; i++) {
		if (ALIGN_DOWN(states[i].addr, PAGE_SIZE) < end) {
			KUNIT_FAIL(test, "range %u at %llx begins before %llx",
				   i, (u64)states[i].addr, end);
			return;
		}
		end = ALIGN(states[i].addr + dma_iova_size(&states[i]),
			    PAGE_SIZE);
	}
}

/**
 * ref_fresh() - a reference with a range of its own, of the writer that is alone
 * @test: the test that it lives as long as
 * @nr: granules
 * @modulo: see dma_iova_reserve(); it is congruent to 0
 *
 * Return: the reference.
 */
struct ref *ref_fresh(struct kunit *test, unsigned int nr, size_t modulo)
{
	struct ref *ref = ref_create(test, test_devices.alone, nr);

	KUNIT_ASSERT_EQ(test, 0,
			ref_reserve(ref, 0, modulo, nr * ref->granule, 0));
	return ref;
}

/**
 * ref_link_page() - link a page and note it
 * @ref: the reference
 * @i: in which granule
 * @phys: the page
 * @access: rights
 */
void ref_link_page(struct ref *ref, unsigned int i, phys_addr_t phys,
		   u64 access)
{
	u64 word = pfn_tag(PHYS_PFN(phys), access, PFN_KIND_REGULAR);
	size_t done;

	KUNIT_ASSERT_EQ(ref->test, 0,
			dma_iova_link_pfns(ref->device->dev, &ref->state,
					   ref_offset(ref, i), &word, 1, &done,
					   GFP_KERNEL));
	KUNIT_EXPECT_EQ(ref->test, word,
			pfn_tag(PHYS_PFN(phys), access | PFN_TAG_MAPPED,
				PFN_KIND_REGULAR));
	ref->words[i] = word;
	ref_link(ref, i, 1, phys, access);
}
