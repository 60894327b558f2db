// SPDX-License-Identifier: GPL-2.0
/*
 * Copyright (c) 2026 The Twostep authors
 *
 * KUnit tests of the two-step DMA core: random operations on one range.
 *
 * Each step draws an operation and its arguments, predicts from the reference what the call
 * must return and leave, makes the call, and compares: the result, the words, what was
 * said to be widened, and the translation of every granule. Calls that must fail are drawn
 * on purpose: a link over something linked stops at the run that meets it.
 *
 * A step may cut entries, except with the calls for which that is the caller's bug.
 */

#include <linux/bitfield.h>
#include <linux/dma-mapping.h>
#include <linux/limits.h>
#include <linux/mm.h>

#include "dma-iova-test.h"

/**
 * struct walk - a sequence of random operations
 * @ref: the range and its reference
 * @pool: memory to link
 * @rnd: where chance comes from
 * @before: the words as they were before a call, one for each granule
 * @runs: runs for a call
 * @conflicts: operations that were refused because something was linked
 * @widened: operations that took more than they were asked for
 * @large: entries of more than a granule that were linked
 */
struct walk {
	struct ref *ref;
	struct test_pool *pool;
	struct rnd_state rnd;
	u64 *before;
	struct run_list runs;
	unsigned int conflicts;
	unsigned int widened;
	unsigned int large;
};

static u64 any_access(struct rnd_state *rnd)
{
	static const u64 access[] = { PFN_TAG_READ, PFN_TAG_WRITE,
				      PFN_TAG_ACCESS, PFN_TAG_ACCESS };

	return access[below(rnd, ARRAY_SIZE(access))];
}

/* How many contiguous granules there are, at most *nr, and where. */
static phys_addr_t any_memory(struct walk *walk, dma_addr_t iova,
			      unsigned int *nr)
{
	struct rnd_state *rnd = &walk->rnd;
	size_t granule = walk->ref->granule, offset;
	unsigned int area = below(rnd, POOL_AREAS);
	bool fits = !(iova & (SZ_2M - 1)) && *nr >= SZ_2M / granule;

	/* Often from a large area, and often where a large entry fits. */
	if (*nr > 1 && (fits || chance(rnd, 70)))
		area = below(rnd, POOL_BLOCKS);
	offset = below(rnd, walk->pool->areas[area].size / granule) * granule;
	if (area < POOL_BLOCKS && chance(rnd, 80))
		offset = iova & (walk->pool->areas[area].size - 1);
	*nr = min_t(u32, *nr,
		    (walk->pool->areas[area].size - offset) / granule);
	return walk->pool->areas[area].phys + offset;
}

/* The next granule whose IOVA is a multiple of 2 MiB, or the same one if there is none. */
static unsigned int block_border(const struct ref *ref, unsigned int first)
{
	dma_addr_t iova = ALIGN(ref_iova(ref, first), SZ_2M);

	return iova < ref_iova(ref, ref->nr) ?
		       (iova - ref->base) / ref->granule :
		       first;
}

/* A part of the table from @lowest on: mostly short, at times most of it. */
static void any_part(struct walk *walk, unsigned int lowest,
		     unsigned int *first, unsigned int *nr)
{
	struct rnd_state *rnd = &walk->rnd;
	unsigned int end = walk->ref->nr;

	*first = lowest + below(rnd, end - lowest);
	if (chance(rnd, 15))
		*first = lowest;
	if (chance(rnd, 30))
		*first = block_border(walk->ref, *first);
	*nr = 1 + below(rnd, end - *first);
	if (chance(rnd, 50))
		*nr = min(*nr, 1 + below(rnd, 64));
	else if (chance(rnd, 50))
		*nr = min(end - *first, 512 + below(rnd, 64));
}

/* The first granule that begins inside the range. */
static unsigned int first_whole(const struct ref *ref)
{
	return ref->base < ref->state.addr;
}

static size_t bytes_left(const struct ref *ref, size_t offset, size_t len)
{
	return min(len, dma_iova_size(&ref->state) - offset);
}

static void fill_segment(struct walk *walk, unsigned int i, unsigned int *nr)
{
	struct rnd_state *rnd = &walk->rnd;
	enum pfn_tag_kind kind = PFN_KIND_REGULAR;
	u64 tags = any_access(rnd) | FIELD_PREP(PFN_TAG_USER, below(rnd, 32));
	u32 what = below(rnd, 100), j;
	phys_addr_t phys;

	if (what < 15) {
		*nr = min(*nr, 1 + below(rnd, 6));
		for (j = 0; j < *nr; j++)
			walk->ref->words[i + j] =
				chance(rnd, 50) ?
					0 :
					pfn_tag(below(rnd, U32_MAX), 0, kind);
		return;
	}
	if (!(ref_iova(walk->ref, i) & (SZ_2M - 1)))
		what = max(what, 2 * below(rnd, 50));
	if (what < 60)
		*nr = 1;
	else if (what < 80)
		*nr = min(*nr, 1 + below(rnd, 40));
	if (what % 10 == 1)
		kind = 1 + below(rnd, PFN_KIND_DEVICE_PRIVATE);
	phys = any_memory(walk, ref_iova(walk->ref, i), nr);
	for (j = 0; j < *nr; j++)
		walk->ref->words[i + j] =
			pfn_tag(PHYS_PFN(phys) + j, tags, kind) |
			(what == 99 && chance(rnd, 10) ? PFN_TAG_DIRTY : 0);
}

/* New words where none is mapped. What is linked otherwise becomes a hole, or a conflict. */
static void fill_words(struct walk *walk, unsigned int first, unsigned int nr,
		       bool conflict)
{
	struct ref *ref = walk->ref;
	unsigned int i, j, end = first + nr, size;

	for (i = first; i < end; i += size) {
		for (j = i; j < end && !(ref->words[j] & PFN_TAG_MAPPED); j++)
			;
		size = j - i;
		if (size)
			fill_segment(walk, i, &size);
		else
			size = 1;
	}
	for (i = first; i < end && !conflict; i++)
		if (ref->at[i].phys && !(ref->words[i] & PFN_TAG_MAPPED))
			ref->words[i] = 0;
}

static bool fail(struct walk *walk, const char *what, u64 got, u64 wanted)
{
	KUNIT_FAIL(walk->ref->test, "%s: %lld (%llx) instead of %lld (%llx)",
		   what, got, got, wanted, wanted);
	return false;
}

/*
 * Write into the reference what a call said it linked of words that it got in arrays, and look
 * at the words.
 */
static bool apply_words(struct walk *walk, unsigned int first, unsigned int nr,
			unsigned int array, unsigned int done)
{
	struct ref *ref = walk->ref;
	unsigned int i;
	u64 wanted;

	for (i = 0; i < done; i += array)
		walk->large += ref_link_words(ref, walk->before, first + i,
					      min(array, done - i));
	for (i = first; i < first + nr; i++) {
		wanted = walk->before[i];
		if (i < first + done && word_links(wanted))
			wanted |= PFN_TAG_MAPPED;
		if (ref->words[i] != wanted)
			return fail(walk, "a word after link_pfns",
				    ref->words[i], wanted);
	}
	return true;
}

/**
 * struct word_arrays - words for dma_iova_link_arrays()
 * @arrays: for the call
 * @at: the next
 * @left: how many are left
 * @array: how many each array has, but for the last
 * @says_last: whether the last one is said to be
 */
struct word_arrays {
	struct dma_iova_arrays arrays;
	u64 *at;
	size_t left;
	unsigned int array;
	bool says_last;
};

static size_t next_array(struct dma_iova_arrays *arrays, u64 **words)
{
	struct word_arrays *mine =
		container_of(arrays, struct word_arrays, arrays);
	size_t nr = min_t(size_t, mine->left, mine->array);

	*words = mine->at;
	mine->at += nr;
	mine->left -= nr;
	arrays->last = !mine->left && mine->says_last;
	return nr;
}

/* Link words, by either call. */
static int link_words(struct walk *walk, unsigned int first, unsigned int nr,
		      unsigned int array, size_t *done)
{
	struct ref *ref = walk->ref;
	struct word_arrays mine = {
		.arrays.next = next_array,
		.at = ref->words + first,
		.left = nr,
		.array = array,
		.says_last = chance(&walk->rnd, 50),
	};
	int ret;

	if (array == nr)
		return dma_iova_link_pfns(ref->device->dev, &ref->state,
					  ref_offset(ref, first),
					  ref->words + first, nr, done,
					  GFP_KERNEL);
	ret = dma_iova_link_arrays(ref->device->dev, &ref->state,
				   ref_offset(ref, first), &mine.arrays,
				   GFP_KERNEL);
	*done = mine.arrays.linked;
	return ret;
}

static bool step_link_pfns(struct walk *walk)
{
	struct ref *ref = walk->ref;
	unsigned int first, nr, clash, start, array, i;
	size_t done = SIZE_MAX;
	int ret, wanted = 0;

	any_part(walk, first_whole(ref), &first, &nr);
	fill_words(walk, first, nr, chance(&walk->rnd, 30));
	memcpy(walk->before, ref->words, ref->nr * sizeof(*ref->words));
	for (i = first; i < first + nr; i++)
		if (word_links(ref->words[i]) && ref->at[i].phys)
			break;
	clash = i;
	start = i;
	/* The run that meets it is not linked; what lies before without a link may count or not. */
	while (clash < first + nr && word_continues(ref->words, start, first))
		start--;
	while (start > first && start < first + nr &&
	       !word_links(ref->words[start - 1]))
		start--;
	if (clash < first + nr) {
		wanted = -EEXIST;
		walk->conflicts++;
	}

	array = chance(&walk->rnd, 50) ? nr : 1 + below(&walk->rnd, nr);
	ret = link_words(walk, first, nr, array, &done);
	if (ret != wanted)
		return fail(walk, "link_pfns", ret, wanted);
	if (done < start - first || done > clash - first)
		return fail(walk, "done of link_pfns", done, start - first);
	return apply_words(walk, first, nr, array, done);
}

/* Cuts entries at the ends of the array at times: then the hull says more than was asked. */
static bool step_unlink_pfns(struct walk *walk)
{
	struct ref *ref = walk->ref;
	unsigned int first, nr, i, start, behind, lowest = UINT_MAX,
						  highest = 0;
	struct dma_iova_hull hull;
	u64 wanted;

	any_part(walk, first_whole(ref), &first, &nr);
	memcpy(walk->before, ref->words, ref->nr * sizeof(*ref->words));
	hull = dma_iova_unlink_pfns(ref->device->dev, &ref->state,
				    ref_offset(ref, first), ref->words + first,
				    nr);
	for (i = first; i < first + nr; i++) {
		wanted = walk->before[i] & ~PFN_TAG_MAPPED;
		if (ref->words[i] != wanted)
			return fail(walk, "a word after unlink_pfns",
				    ref->words[i], wanted);
		if (!(walk->before[i] & PFN_TAG_MAPPED))
			continue;
		start = i;
		behind = i + 1;
		ref_unlink(ref, &start, &behind);
		lowest = min(lowest, start);
		highest = max(highest, behind);
	}
	walk->widened += highest && (lowest < first || highest > first + nr);
	if (hull.start != (highest ? ref_offset(ref, lowest) : 0))
		return fail(walk, "start of the hull of unlink_pfns",
			    hull.start, ref_offset(ref, lowest));
	if (hull.end != (highest ? ref_offset(ref, highest) : 0))
		return fail(walk, "end of the hull of unlink_pfns", hull.end,
			    ref_offset(ref, highest));
	return true;
}

/* A random run of bytes inside granules [first, first + nr) and inside the range. */
static void any_run(struct walk *walk, unsigned int first, unsigned int nr,
		    struct dma_iova_run *run)
{
	struct ref *ref = walk->ref;
	size_t head = 0, tail = 0;

	run->phys = any_memory(walk, ref_iova(ref, first), &nr);
	if (chance(&walk->rnd, 30))
		head = below(&walk->rnd, ref->granule);
	if (ref_iova(ref, first) < ref->state.addr)
		head = max(head, ref->state.addr - ref->base);
	if (chance(&walk->rnd, 30))
		tail = below(&walk->rnd, ref->granule - (nr == 1 ? head : 0));
	/* The last granule may hold but a few bytes of the range. */
	if (ref_offset(ref, first) + head >= dma_iova_size(&ref->state))
		head = 0;
	run->phys += head;
	run->offset = ref_offset(ref, first) + head;
	run->len =
		bytes_left(ref, run->offset, nr * ref->granule - head - tail);
	run->access = any_access(&walk->rnd);
	run->kind = chance(&walk->rnd, 90) ? PFN_KIND_REGULAR :
					     below(&walk->rnd, 4);
}

/* Runs in order with gaps, at times shuffled, at times one continuing the other. */
static void any_runs_to_link(struct walk *walk)
{
	struct run_list *list = &walk->runs;
	unsigned int wanted, i, j, first, nr, at;
	struct ref *ref = walk->ref;

	run_list_reset(list);
	wanted = 1 + below(&walk->rnd, ARRAY_SIZE(list->run));
	any_part(walk, 0, &at, &nr);
	for (; list->nr < wanted && at < ref->nr; at = first) {
		nr = chance(&walk->rnd, 70) ? 1 : 1 + below(&walk->rnd, 1200);
		if (nr > 512)
			at = block_border(ref, at);
		any_run(walk, at, min(nr, ref->nr - at), &list->run[list->nr]);
		ref_granules(ref, list->run[list->nr].offset,
			     list->run[list->nr].len, &i, &first);
		first += chance(&walk->rnd, 20) ? 0 : 1 + below(&walk->rnd, 8);
		if (ref_empty(ref, i, first < ref->nr ? first : ref->nr) ||
		    chance(&walk->rnd, 5))
			list->nr++;
	}
	for (i = list->nr; i > 1 && chance(&walk->rnd, 70); i--) {
		j = below(&walk->rnd, i);
		swap(list->run[i - 1], list->run[j]);
	}
}

static bool passed_over(const struct dma_iova_run *run)
{
	return run->kind == PFN_KIND_P2P_BUS ||
	       run->kind == PFN_KIND_DEVICE_PRIVATE;
}

/* Whether two runs are one to the IOMMU. */
static bool coalesce(const struct ref *ref, const struct dma_iova_run *a,
		     const struct dma_iova_run *b)
{
	unsigned int a_first, a_behind, b_first, b_behind;

	ref_granules(ref, a->offset, a->len, &a_first, &a_behind);
	ref_granules(ref, b->offset, b->len, &b_first, &b_behind);
	return a_behind == b_first && a->access == b->access &&
	       a->kind == b->kind &&
	       ALIGN_DOWN(a->phys, ref->granule) +
			       (u64)(a_behind - a_first) * ref->granule ==
		       ALIGN_DOWN(b->phys, ref->granule);
}

/* Note runs as linked until one meets something linked. Returns where that one's run began. */
static unsigned int apply_runs(struct walk *walk, unsigned int *clash)
{
	struct run_list *list = &walk->runs;
	unsigned int i, j, first, behind, last, from;
	struct ref *ref = walk->ref;

	for (i = 0; i < list->nr; i = j) {
		j = i + 1;
		if (passed_over(&list->run[i]))
			continue;
		ref_granules(ref, list->run[i].offset, list->run[i].len, &first,
			     &behind);
		for (last = i; j < list->nr; j++) {
			if (passed_over(&list->run[j]))
				continue;
			if (!coalesce(ref, &list->run[last], &list->run[j]))
				break;
			ref_granules(ref, list->run[j].offset, list->run[j].len,
				     &from, &behind);
			last = j;
		}
		if (!ref_empty(ref, first, behind)) {
			*clash = j;
			return i;
		}
		ref_link(ref, first, behind - first,
			 ALIGN_DOWN(list->run[i].phys, ref->granule),
			 list->run[i].access);
		walk->large += ref->at[first].behind - ref->at[first].first > 1;
	}
	*clash = list->nr;
	return list->nr;
}

static bool step_link_runs(struct walk *walk)
{
	struct run_list *list = &walk->runs;
	struct ref *ref = walk->ref;
	unsigned int start, clash;
	int ret, wanted;

	any_runs_to_link(walk);
	if (!list->nr)
		return true;
	ret = dma_iova_link_runs(ref->device->dev, &ref->state, &list->iter,
				 GFP_KERNEL);
	start = apply_runs(walk, &clash);
	wanted = start < list->nr ? -EEXIST : 0;
	walk->conflicts += !!wanted;
	if (ret != wanted)
		return fail(walk, "link_runs", ret, wanted);
	if (list->iter.runs < start || list->iter.runs > clash)
		return fail(walk, "runs of link_runs", list->iter.runs, start);
	return true;
}

/* One event of the unlink at hand, or none: whether it is what the reference says. */
static bool widened_is(struct walk *walk, unsigned int run, unsigned int first,
		       unsigned int behind)
{
	struct run_list *list = &walk->runs;
	unsigned int i, got_first, got_behind;

	if (first == behind)
		return true;
	walk->widened++;
	for (i = 0; i < list->nr_widened; i++) {
		ref_granules(walk->ref, list->widened[i].offset,
			     list->widened[i].len, &got_first, &got_behind);
		if (list->widened[i].run == run && got_first == first &&
		    got_behind == behind) {
			list->widened[i].run = UINT_MAX;
			return true;
		}
	}
	KUNIT_FAIL(walk->ref->test,
		   "run %u took granules %u to %u along and did not say so",
		   run, first, behind);
	return false;
}

static bool widened_as_expected(struct walk *walk)
{
	struct run_list *list = &walk->runs;
	unsigned int i, first, behind, from, to;

	for (i = 0; i < list->nr; i++) {
		ref_granules(walk->ref, list->run[i].offset, list->run[i].len,
			     &first, &behind);
		from = first;
		to = behind;
		ref_unlink(walk->ref, &from, &to);
		if (!widened_is(walk, i, from, first) ||
		    !widened_is(walk, i, behind, to))
			return false;
	}
	for (i = 0; i < list->nr_widened; i++)
		if (list->widened[i].run != UINT_MAX)
			return fail(walk, "widened for no reason, at offset",
				    list->widened[i].offset, 0);
	return true;
}

static bool step_unlink_runs(struct walk *walk)
{
	struct run_list *list = &walk->runs;
	struct ref *ref = walk->ref;
	unsigned int wanted = 1 + below(&walk->rnd, 12), first, nr;

	run_list_reset(list);
	while (list->nr < wanted) {
		any_part(walk, 0, &first, &nr);
		any_run(walk, first, nr, &list->run[list->nr]);
		list->nr++;
	}
	dma_iova_unlink_runs(ref->device->dev, &ref->state, &list->iter);
	if (list->iter.runs != list->nr)
		return fail(walk, "runs of unlink_runs", list->iter.runs,
			    list->nr);
	return widened_as_expected(walk);
}

static enum dma_data_direction direction_of(u64 access)
{
	if (access == PFN_TAG_READ)
		return DMA_TO_DEVICE;
	return access == PFN_TAG_WRITE ? DMA_FROM_DEVICE : DMA_BIDIRECTIONAL;
}

static bool step_link(struct walk *walk)
{
	struct ref *ref = walk->ref;
	unsigned int first, behind, nr;
	struct dma_iova_run run;
	int ret, wanted = 0;

	any_part(walk, 0, &first, &nr);
	any_run(walk, first, nr, &run);
	ref_granules(ref, run.offset, run.len, &first, &behind);
	if (!ref_empty(ref, first, behind)) {
		walk->conflicts++;
		wanted = -EEXIST;
	}
	ret = dma_iova_link(ref->device->dev, &ref->state, run.phys, run.offset,
			    run.len, direction_of(run.access), 0);
	if (ret != wanted)
		return fail(walk, "link", ret, wanted);
	if (ret)
		return true;
	ref_link(ref, first, behind - first, ALIGN_DOWN(run.phys, ref->granule),
		 run.access);
	ret = dma_iova_sync(ref->device->dev, &ref->state, run.offset, run.len);
	return !ret || fail(walk, "sync", ret, 0);
}

/* Whatever is there, holes too; only the entries at the ends have to be whole. */
static bool step_unlink(struct walk *walk)
{
	struct ref *ref = walk->ref;
	unsigned int first, behind, nr;
	size_t offset;

	any_part(walk, 0, &first, &nr);
	behind = first + nr;
	if (ref->at[behind - 1].phys)
		behind = ref->at[behind - 1].behind;
	if (ref->at[first].phys)
		first = ref->at[first].first;
	offset = ref_iova(ref, first) < ref->state.addr ?
			 0 :
			 ref_offset(ref, first);
	dma_iova_unlink(ref->device->dev, &ref->state, offset,
			bytes_left(ref, offset,
				   ref_offset(ref, behind) - offset),
			DMA_BIDIRECTIONAL, 0);
	ref_unlink(ref, &first, &behind);
	return true;
}

static bool step_probe(struct walk *walk)
{
	struct rnd_state *rnd = &walk->rnd;
	unsigned int i, tries;

	for (tries = 0; tries < 8; tries++) {
		i = below(rnd, walk->ref->nr);
		if (!ref_probe(walk->ref, i,
			       below(rnd, walk->ref->granule / 4) * 4))
			return false;
	}
	return true;
}

static const struct {
	const char *name;
	bool (*step)(struct walk *walk);
	u32 percent;
} steps[] = {
	{ "link_pfns", step_link_pfns, 28 },
	{ "unlink_pfns", step_unlink_pfns, 14 },
	{ "link_runs", step_link_runs, 14 },
	{ "unlink_runs", step_unlink_runs, 14 },
	{ "link", step_link, 10 },
	{ "unlink", step_unlink, 10 },
	{ "stores of the device", step_probe, 10 },
};

/**
 * random_operations() - operate on a range, comparing after each step
 * @ref: a reference with a range
 * @pool: memory to link
 * @seed: what decides
 * @count: how many steps
 *
 * Between iommu_testdev_faults_begin() and iommu_testdev_faults_end(). Leaves links in the range.
 *
 * Return: whether the reference held throughout.
 */
bool random_operations(struct ref *ref, struct test_pool *pool, u64 seed,
		       unsigned int count)
{
	struct walk *walk = kvzalloc(sizeof(*walk), GFP_KERNEL);
	unsigned int i, which, n;
	bool good = false;

	if (!walk)
		return false;
	walk->ref = ref;
	walk->pool = pool;
	walk->before = kvcalloc(ref->nr, sizeof(*walk->before), GFP_KERNEL);
	prandom_seed_state(&walk->rnd, seed);
	for (n = 0, good = walk->before; good && n < count; n++) {
		i = below(&walk->rnd, 100);
		for (which = 0; i >= steps[which].percent; which++)
			i -= steps[which].percent;
		good = steps[which].step(walk) &&
		       ref_holds(ref, steps[which].name);
		cond_resched();
	}
	if (good)
		kunit_info(
			ref->test,
			"%u steps, %u refused, %u took more than asked, %u began with a large entry",
			n, walk->conflicts, walk->widened, walk->large);
	else
		kunit_err(ref->test, "step %u of seed %llu", n, seed);
	kvfree(walk->before);
	kvfree(walk);
	return good;
}

struct shape {
	const char *name;
	u64 like;
	size_t modulo;
	size_t size; /* 0: huge */
};

static const struct shape shapes[] = {
	{ "8 MiB modulo 2 MiB", 0, SZ_2M, SZ_8M },
	{ "8 MiB modulo 2 MiB like 0x1ff000", 0x1ff000, SZ_2M, SZ_8M },
	{ "8 MiB modulo 4 KiB", 0x7fffdeadb000, SZ_4K, SZ_8M },
	{ "4 MiB modulo 64 KiB, odd ends", 0x5555deadbeef, SZ_64K,
	  SZ_4M - 333 },
	{ "5 MiB modulo 1 GiB", 0x555512345000, SZ_1G, 5 * SZ_1M },
	{ "one page", 0x1000, SZ_4K, SZ_4K },
	{ "huge, over 4 GiB", SZ_4G - SZ_4M, SZ_4G, 0 },
};

static void shape_name(const struct shape *shape, char *name)
{
	strscpy(name, shape->name, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(shape, shapes, shape_name);

static void random_steps_match_the_reference(struct kunit *test)
{
	const struct shape *shape = test->param_value;
	struct ref *ref =
		ref_create(test, test_devices.alone, SZ_8M / PAGE_SIZE);
	struct test_pool *pool = pool_create(test);

	KUNIT_ASSERT_EQ(test, 0,
			ref_reserve(ref, shape->like, shape->modulo,
				    shape->size ?: huge_size(), 0));
	iommu_testdev_faults_begin();
	random_operations(ref, pool, test_seed(test), test_steps());
	iommu_testdev_faults_end();
	kunit_info(test, "IOVA %llx, %u of %u granules still linked",
		   (u64)ref->state.addr, ref_linked(ref), ref->nr);
	ref_destroy(ref);
	ref_holds(ref, "free");
}

static struct kunit_case dma_iova_random_cases[] = {
	KUNIT_CASE_PARAM(random_steps_match_the_reference, shape_gen_params),
	{}
};

static struct kunit_suite dma_iova_random_suite = {
	.name = "dma_iova_random",
	.suite_init = test_devices_get,
	.suite_exit = test_devices_put,
	.init = test_needs_alone,
	.test_cases = dma_iova_random_cases,
};

kunit_test_suite(dma_iova_random_suite);
