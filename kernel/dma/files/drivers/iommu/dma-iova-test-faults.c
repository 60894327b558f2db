// SPDX-License-Identifier: GPL-2.0
/*
 * Copyright (c) 2026 The Twostep authors
 *
 * KUnit tests of the two-step DMA core: every step that can fail, fails once.
 *
 * An operation is tried again and again, each time on a range of its own; in try n the nth
 * step that fault injection knows of fails, until a try meets no such step. After each, the
 * range must be what the call said: nothing linked, or the runs up to where it came. Then
 * it is done once more, which must go well.
 *
 * The core's own seams always fail. Slab and page allocations do so only once debugfs
 * failslab and fail_page_alloc were told to consider small and sleeping ones: run the suite
 * again then. Each failure logs a stack, unseen, unless "verbose" says otherwise there.
 */

#include <linux/dma-mapping.h>
#include <linux/iommu.h>
#include <linux/mm.h>
#include <linux/sched.h>

#include "dma-iova-test.h"
#include "dma-iova.h"

#define MAX_TRIES 200
#define TABLE (SZ_8M / PAGE_SIZE)

/**
 * struct victim - what an operation that is to fail works on
 * @ref: a range with its reference, not reserved yet
 * @pool: memory
 * @list: runs for link_runs
 * @before: the words before the call
 * @done: how far link_pfns came
 */
struct victim {
	struct ref *ref;
	struct test_pool *pool;
	struct run_list list;
	u64 before[1024];
	size_t done;
};

/**
 * struct operation - an operation that is to fail
 * @name: for messages
 * @prepare: make it ready, without failing
 * @run: do it; every step in it may fail
 * @verify: note in the reference what it said it did, after it returned @ret
 * @least: steps that it has at least and that refuse it when they fail
 */
struct operation {
	const char *name;
	void (*prepare)(struct victim *victim);
	int (*run)(struct victim *victim);
	void (*verify)(struct victim *victim, int ret);
	unsigned int least;
};

/* Returns what the operation returned, and whether a step was made to fail. */
static int run_failing(const struct operation *operation, struct victim *victim,
		       unsigned int n, bool *failed)
{
	int ret;

	current->fail_nth = n;
	ret = operation->run(victim);
	*failed = !current->fail_nth;
	current->fail_nth = 0;
	return ret;
}

static void prepare_reserved(struct victim *victim)
{
	KUNIT_ASSERT_EQ(victim->ref->test, 0,
			ref_reserve(victim->ref, SZ_1M, SZ_2M, SZ_8M, 0));
}

static void prepare_nothing(struct victim *victim)
{
}

static int run_reserve(struct victim *victim)
{
	return ref_reserve(victim->ref, SZ_1M, SZ_2M, SZ_8M, 0);
}

static void verify_reserve(struct victim *victim, int ret)
{
	KUNIT_EXPECT_EQ(victim->ref->test, !ret,
			dma_use_iova(&victim->ref->state));
}

static int run_try_alloc(struct victim *victim)
{
	bool got = dma_iova_try_alloc(victim->ref->device->dev,
				      &victim->ref->state, 0, SZ_8M);

	if (got)
		ref_adopt(victim->ref, 0, 0);
	return got ? 0 : -ENOMEM;
}

#define FIRST 64
#define LAST 960 /* both are linked from before */
#define WORDS (LAST - FIRST + 1)

static bool linked_before(unsigned int i)
{
	return i % 128 == 64 && (i < 256 || i >= 768);
}

/* Singles, runs, holes, a block that takes a large entry; some words are linked already. */
static void prepare_words(struct victim *victim)
{
	u64 block = PHYS_PFN(victim->pool->areas[0].phys);
	struct ref *ref = victim->ref;
	unsigned int i;
	u64 access;

	prepare_reserved(victim);
	for (i = 0; i < 1024; i++) {
		access = i % 16 < 8 || (i >= 256 && i < 768) ? PFN_TAG_ACCESS :
							       PFN_TAG_READ;
		if (i >= 256 && i < 768)
			ref->words[i] = (block + i - 256) | access;
		else if (i % 8 < 3)
			ref->words[i] = (block + i * 37 % 512) | access;
		else if (i % 8 < 7)
			ref->words[i] = (block + 100 + i % 8) | access;
		if (!linked_before(i))
			continue;
		ref_link(ref, i, 1, pfn_tag_phys(ref->words[i]), access);
		KUNIT_ASSERT_EQ(
			ref->test, 0,
			dma_iova_link_pfns(ref->device->dev, &ref->state,
					   ref_offset(ref, i), ref->words + i,
					   1, &victim->done, GFP_KERNEL));
	}
	memcpy(victim->before, ref->words, sizeof(victim->before));
}

static int link_words(struct victim *victim, gfp_t gfp)
{
	struct ref *ref = victim->ref;

	return dma_iova_link_pfns(ref->device->dev, &ref->state,
				  ref_offset(ref, FIRST), ref->words + FIRST,
				  WORDS, &victim->done, gfp);
}

static int run_words(struct victim *victim)
{
	return link_words(victim, GFP_KERNEL);
}

static int run_words_atomic(struct victim *victim)
{
	return link_words(victim, GFP_ATOMIC);
}

#define ARRAY_WORDS 300 /* cuts the block */

/**
 * struct fault_arrays - the victim's words in arrays
 * @arrays: for the call
 * @at: the next word
 * @end: behind the last
 */
struct fault_arrays {
	struct dma_iova_arrays arrays;
	u64 *at;
	u64 *end;
};

static size_t next_array(struct dma_iova_arrays *arrays, u64 **words)
{
	struct fault_arrays *mine =
		container_of(arrays, struct fault_arrays, arrays);
	size_t nr = min_t(size_t, mine->end - mine->at, ARRAY_WORDS);

	*words = mine->at;
	mine->at += nr;
	return nr;
}

static int run_arrays(struct victim *victim)
{
	struct ref *ref = victim->ref;
	struct fault_arrays mine = {
		.arrays.next = next_array,
		.at = ref->words + FIRST,
		.end = ref->words + FIRST + WORDS,
	};
	int ret;

	ret = dma_iova_link_arrays(ref->device->dev, &ref->state,
				   ref_offset(ref, FIRST), &mine.arrays,
				   GFP_KERNEL);
	victim->done = mine.arrays.linked;
	return ret;
}

/* Nothing new is linked; of what was before, what lost MAPPED must be gone. */
static void verify_unsynced(struct victim *victim)
{
	struct ref *ref = victim->ref;
	unsigned int i;

	KUNIT_EXPECT_EQ(ref->test, 0, victim->done);
	for (i = 0; i < ARRAY_SIZE(victim->before); i++) {
		KUNIT_EXPECT_EQ_MSG(ref->test, ref->words[i] | PFN_TAG_MAPPED,
				    victim->before[i] | PFN_TAG_MAPPED,
				    "word %u", i);
		KUNIT_EXPECT_TRUE_MSG(ref->test,
				      victim->before[i] & PFN_TAG_MAPPED ||
					      !(ref->words[i] & PFN_TAG_MAPPED),
				      "word %u", i);
		if (!(ref->words[i] & PFN_TAG_MAPPED))
			ref->at[i] = (struct ref_granule){};
	}
}

/* The prefix is linked, in arrays of a length, and nothing behind it that was not before. */
static void verify_linked(struct victim *victim, int ret, unsigned int array)
{
	struct ref *ref = victim->ref;
	unsigned int i;
	u64 wanted;

	KUNIT_EXPECT_TRUE(ref->test, ret == 0 || ret == -ENOMEM);
	KUNIT_EXPECT_TRUE(ref->test, ret || victim->done == WORDS);
	for (i = 0; i < victim->done; i += array)
		ref_link_words(ref, victim->before, FIRST + i,
			       min_t(size_t, array, victim->done - i));
	for (i = 0; i < ARRAY_SIZE(victim->before); i++) {
		wanted = victim->before[i];
		if (ref->at[i].phys)
			wanted |= PFN_TAG_MAPPED;
		KUNIT_EXPECT_EQ_MSG(ref->test, ref->words[i], wanted, "word %u",
				    i);
	}
}

static void verify_words(struct victim *victim, int ret)
{
	if (ret == -EIO)
		verify_unsynced(victim);
	else
		verify_linked(victim, ret, WORDS);
	memcpy(victim->before, victim->ref->words, sizeof(victim->before));
}

/* Where syncing failed the words say nothing: the I/O page table does. */
static void verify_unsynced_arrays(struct victim *victim)
{
	struct ref *ref = victim->ref;
	unsigned int i;

	KUNIT_EXPECT_EQ(ref->test, 0, victim->done);
	for (i = FIRST; i <= LAST; i++) {
		ref->words[i] = victim->before[i];
		if (iommu_iova_to_phys(ref->device->domain, ref_iova(ref, i)))
			continue;
		ref->words[i] &= ~PFN_TAG_MAPPED;
		ref->at[i] = (struct ref_granule){};
	}
}

static void verify_arrays(struct victim *victim, int ret)
{
	if (ret == -EIO)
		verify_unsynced_arrays(victim);
	else
		verify_linked(victim, ret, ARRAY_WORDS);
	memcpy(victim->before, victim->ref->words, sizeof(victim->before));
}

/* The same memory by runs, from the highest offset to the lowest, without a hole in between. */
static void prepare_runs(struct victim *victim)
{
	struct run_list *list = &victim->list;
	unsigned int i;

	prepare_reserved(victim);
	run_list_reset(list);
	list->nr = ARRAY_SIZE(list->run);
	for (i = 0; i < list->nr; i++)
		list->run[i] = (struct dma_iova_run){
			.phys = victim->pool->areas[i % POOL_BLOCKS].phys +
				0x3000 * i,
			.offset = SZ_8M - (i + 1) * 0x33000,
			.len = 0x33000,
			.access = i % 2 ? PFN_TAG_READ : PFN_TAG_ACCESS,
		};
}

static int run_runs(struct victim *victim)
{
	victim->list.at = 0;
	return dma_iova_link_runs(victim->ref->device->dev, &victim->ref->state,
				  &victim->list.iter, GFP_KERNEL);
}

static void verify_runs(struct victim *victim, int ret)
{
	struct run_list *list = &victim->list;
	unsigned int i, first, behind;
	struct ref *ref = victim->ref;

	KUNIT_EXPECT_TRUE(ref->test, ret == 0 || ret == -ENOMEM || ret == -EIO);
	KUNIT_EXPECT_TRUE(ref->test, ret || list->iter.runs == list->nr);
	KUNIT_EXPECT_TRUE(ref->test, ret != -EIO || !list->iter.runs);
	for (i = 0; i < list->iter.runs; i++) {
		ref_granules(ref, list->run[i].offset, list->run[i].len, &first,
			     &behind);
		ref_link(ref, first, behind - first, list->run[i].phys,
			 list->run[i].access);
	}
	/* The second time begins where the first came to. */
	list->nr -= list->iter.runs;
	memmove(list->run, list->run + list->iter.runs,
		list->nr * sizeof(*list->run));
}

/* One link across four leaf tables, of addresses that nobody accesses. */
#define FAR (64ULL * SZ_1G + PAGE_SIZE)

static int run_link(struct victim *victim)
{
	struct ref *ref = victim->ref;
	int ret;

	ret = dma_iova_link(ref->device->dev, &ref->state, FAR, 0, 5 * SZ_1M,
			    DMA_TO_DEVICE, DMA_ATTR_MMIO);
	victim->done = !ret;
	return ret   ?:
		       dma_iova_sync(ref->device->dev, &ref->state, 0,
				     5 * SZ_1M);
}

static void verify_link(struct victim *victim, int ret)
{
	struct ref *ref = victim->ref;

	KUNIT_EXPECT_TRUE(ref->test, ret == 0 || ret == -ENOMEM || ret == -EIO);
	if (ret && victim->done)
		dma_iova_unlink(ref->device->dev, &ref->state, 0, 5 * SZ_1M,
				DMA_TO_DEVICE, DMA_ATTR_MMIO);
	if (!ret)
		ref_link(ref, 0, 5 * SZ_1M / PAGE_SIZE, FAR, PFN_TAG_READ);
}

static void prepare_unlink(struct victim *victim)
{
	prepare_words(victim);
	KUNIT_ASSERT_EQ(victim->ref->test, 0, run_words(victim));
	verify_words(victim, 0);
}

/* Cannot fail, whatever does: in parts, so that entries are cut. */
static int run_unlink(struct victim *victim)
{
	struct ref *ref = victim->ref;
	struct run_list *list = &victim->list;
	struct device *dev = ref->device->dev;

	run_list_reset(list);
	list->nr = 2;
	list->run[0] = (struct dma_iova_run){ .offset = 300 * PAGE_SIZE,
					      .len = 7 * PAGE_SIZE };
	list->run[1] = (struct dma_iova_run){ .offset = 100 * PAGE_SIZE,
					      .len = SZ_64K };
	dma_iova_unlink_runs(dev, &ref->state, &list->iter);
	dma_iova_unlink_pfns(dev, &ref->state, ref_offset(ref, 768),
			     ref->words + 768, 100);
	dma_iova_unlink(dev, &ref->state, 0, SZ_8M, DMA_BIDIRECTIONAL, 0);
	return 0;
}

static void verify_unlink(struct victim *victim, int ret)
{
	unsigned int first = 0, behind = victim->ref->nr;

	ref_unlink(victim->ref, &first, &behind);
}

/* One page: of more, the base's map_pages() may leave some behind when a table fails. */
static int run_map_phys(struct victim *victim)
{
	struct device *dev = victim->ref->device->dev;
	dma_addr_t iova;

	iova = dma_map_phys(dev, FAR, PAGE_SIZE, DMA_TO_DEVICE, DMA_ATTR_MMIO);
	if (dma_mapping_error(dev, iova))
		return -ENOMEM;
	dma_unmap_phys(dev, iova, PAGE_SIZE, DMA_TO_DEVICE, DMA_ATTR_MMIO);
	return 0;
}

static void verify_nothing(struct victim *victim, int ret)
{
}

static const struct operation operations[] = {
	{ "reserve", prepare_nothing, run_reserve, verify_reserve, 1 },
	{ "try_alloc", prepare_nothing, run_try_alloc, verify_reserve, 1 },
	{ "link_pfns", prepare_words, run_words, verify_words, 4 },
	{ "link_pfns, atomic", prepare_words, run_words_atomic, verify_words,
	  4 },
	{ "link_arrays", prepare_words, run_arrays, verify_arrays, 6 },
	{ "link_runs", prepare_runs, run_runs, verify_runs, 6 },
	{ "link and sync", prepare_reserved, run_link, verify_link, 5 },
	{ "unlink", prepare_unlink, run_unlink, verify_unlink, 0 },
	{ "map_phys", prepare_nothing, run_map_phys, verify_nothing, 1 },
};

static void operation_name(const struct operation *operation, char *name)
{
	strscpy(name, operation->name, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(operation, operations, operation_name);

/* One try. Returns whether a step of the operation was made to fail. */
static bool try(struct kunit *test, const struct operation *operation,
		struct victim *victim, unsigned int n, unsigned int *refused)
{
	bool failed;
	int ret;

	victim->ref = ref_create(test, test_devices.alone, TABLE);
	victim->ref->neighbours = false;
	operation->prepare(victim);
	ret = run_failing(operation, victim, n, &failed);
	operation->verify(victim, ret);
	if (dma_use_iova(&victim->ref->state))
		ref_holds(victim->ref, ret ? "a failure" : "success");
	if (!ret)
		return failed;

	(*refused)++;
	KUNIT_EXPECT_TRUE_MSG(test, failed, "%d, but nothing was made to fail",
			      ret);
	ret = operation->run(victim);
	KUNIT_EXPECT_EQ_MSG(test, 0, ret, "after step %u had failed", n);
	operation->verify(victim, ret);
	ref_holds(victim->ref, "success after a failure");
	return failed;
}

static unsigned int sweep(struct kunit *test, const struct operation *operation,
			  struct victim *victim, struct ref **tried)
{
	unsigned int n, refused = 0;
	bool more = true;

	for (n = 0; more && n < MAX_TRIES && !test->status; n++) {
		more = try(test, operation, victim, n + 1, &refused);
		tried[n] = victim->ref;
	}
	KUNIT_EXPECT_FALSE_MSG(test, more, "%u tries", n);
	kunit_info(test, "%u tries, %u of them refused", n, refused);
	/* Only now, so that no try found the tables of another. */
	while (n--)
		if (dma_use_iova(&tried[n]->state))
			ref_destroy(tried[n]);
	return refused;
}

static void each_failing_step_is_undone(struct kunit *test)
{
	const struct operation *operation = test->param_value;
	struct victim *victim =
		kunit_kzalloc(test, sizeof(*victim), GFP_KERNEL);
	struct ref **tried =
		kunit_kcalloc(test, MAX_TRIES, sizeof(*tried), GFP_KERNEL);
	long pages;

	KUNIT_ASSERT_NOT_NULL(test, victim);
	KUNIT_ASSERT_NOT_NULL(test, tried);
	victim->pool = pool_create(test);
	/* dma-debug says aloud that it ran out of memory. */
	iommu_testdev_faults_begin();
	KUNIT_EXPECT_GE(test, sweep(test, operation, victim, tried),
			operation->least);
	pages = table_pages();
	if (!test->status)
		sweep(test, operation, victim, tried);
	iommu_testdev_faults_end();
	KUNIT_EXPECT_EQ(test, pages, table_pages());
}

static struct kunit_case dma_iova_fail_cases[] = {
	KUNIT_CASE_PARAM(each_failing_step_is_undone, operation_gen_params),
	{}
};

static struct kunit_suite dma_iova_fail_suite = {
	.name = "dma_iova_fail",
	.suite_init = test_devices_get,
	.suite_exit = test_devices_put,
	.init = test_needs_alone,
	.test_cases = dma_iova_fail_cases,
};

kunit_test_suite(dma_iova_fail_suite);
