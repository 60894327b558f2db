// SPDX-License-Identifier: GPL-2.0
/*
 * Copyright (c) 2026 The Twostep authors
 *
 * KUnit tests of the sparse table of tagged PFNs (linux/pfn-table.h).
 *
 * The reference (struct ref) is a plain array of words for some blocks, neighbours and far
 * apart ones, and for each whether it is huge. It knows nothing of slots. After every
 * operation of a random sequence the table must say the same of every page, of blocks that
 * do not exist too, and its counts and bytes must be those of the reference.
 *
 * Parameters: hmm_mirror_test.seed; pfn_table_test.steps, of a random sequence.
 */

#include <linux/limits.h>
#include <linux/moduleparam.h>
#include <linux/sched.h>
#include <linux/slab.h>

#include "hmm-mirror-test.h"

static uint steps = 4000;
module_param(steps, uint, 0644);
MODULE_PARM_DESC(steps, "steps of a random sequence");

#define BLOCKS 48
#define SOME_TAGS (PFN_TAG_MAPPED | PFN_TAG_DIRTY | PFN_TAG_WRITE)

/**
 * struct ref - the table under test, and what it must say
 * @test: the case
 * @table: under test
 * @reserve: for it
 * @rnd: where chance comes from
 * @numbers: the blocks' numbers, ascending
 * @huge: whether a block is huge
 * @words: what pfn_table_word() must return, block by block
 */
struct ref {
	struct kunit *test;
	struct pfn_table table;
	struct pfn_table_reserve reserve;
	struct rnd_state rnd;
	u64 numbers[BLOCKS];
	bool huge[BLOCKS];
	u64 words[BLOCKS][PAGES];
};

static u64 any_u64(struct rnd_state *rnd)
{
	return (u64)prandom_u32_state(rnd) << 32 | prandom_u32_state(rnd);
}

static unsigned int ref_pages(const struct ref *ref, unsigned int b)
{
	unsigned int i, pages = 0;

	for (i = 0; i < PAGES; i++)
		pages += !!ref->words[b][i];
	return pages;
}

/* Half of the blocks are neighbours, the others anywhere. */
static void choose_numbers(struct ref *ref)
{
	u64 start = any_u64(&ref->rnd) >> (12 + below(&ref->rnd, 52));
	unsigned int b;

	start = min_t(u64, start, BIT_ULL(51));
	for (b = 0; b < BLOCKS; b++) {
		ref->numbers[b] = start;
		start += 1;
		if (b >= BLOCKS / 2)
			start += any_u64(&ref->rnd) >>
				 (18 + below(&ref->rnd, 46));
	}
}

static struct ref *ref_create(struct kunit *test)
{
	struct ref *ref = kunit_kzalloc(test, sizeof(*ref), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, ref);
	ref->test = test;
	prandom_seed_state(&ref->rnd, mirror_test_seed(test));
	choose_numbers(ref);
	return ref;
}

static void ref_destroy(struct ref *ref)
{
	pfn_table_release(&ref->reserve);
	pfn_table_destroy(&ref->table);
	KUNIT_EXPECT_EQ(ref->test, pfn_table_bytes(&ref->table), 0);
	KUNIT_EXPECT_EQ(ref->test, ref->table.nr, 0);
}

static void ref_holds_block(struct ref *ref, unsigned int b)
{
	u64 index = ref->numbers[b] << PFN_TABLE_BLOCK_ORDER, word;
	struct pfn_table_slot *slot;
	unsigned int i, pages = ref_pages(ref, b);

	slot = pfn_table_find(&ref->table, ref->numbers[b]);
	KUNIT_EXPECT_EQ(ref->test, !!slot, !!pages);
	if (slot) {
		KUNIT_EXPECT_EQ(ref->test, pfn_table_slot_split(slot),
				!ref->huge[b]);
		KUNIT_EXPECT_EQ(ref->test, pfn_table_slot_pages(slot), pages);
		KUNIT_EXPECT_EQ(ref->test, pfn_table_slot_block(slot),
				ref->numbers[b]);
	}
	for (i = 0; i < PAGES; i++) {
		word = pfn_table_word(&ref->table, index + i);
		if (word == ref->words[b][i])
			continue;
		KUNIT_FAIL(ref->test,
			   "page %u of block %llu is %llx instead of %llx", i,
			   ref->numbers[b], word, ref->words[b][i]);
		return;
	}
}

static bool is_number(const struct ref *ref, u64 block)
{
	unsigned int b;

	for (b = 0; b < BLOCKS; b++)
		if (ref->numbers[b] == block)
			return true;
	return false;
}

static void ref_holds(struct ref *ref)
{
	unsigned long nr = 0, nr_split = 0, bytes;
	unsigned int b;
	u64 other;

	for (b = 0; b < BLOCKS; b++) {
		ref_holds_block(ref, b);
		nr += !!ref_pages(ref, b);
		nr_split += ref_pages(ref, b) && !ref->huge[b];
		other = ref->numbers[b] + (chance(&ref->rnd, 50) ? 1 : -1);
		other &= BIT_ULL(52) - 1;
		if (!is_number(ref, other))
			KUNIT_EXPECT_PTR_EQ(ref->test, NULL,
					    pfn_table_find(&ref->table, other));
	}
	KUNIT_EXPECT_EQ(ref->test, ref->table.nr, nr);
	KUNIT_EXPECT_EQ(ref->test, ref->table.nr_split, nr_split);
	bytes = ref->table.slots ?
			sizeof(struct pfn_table_slot) << ref->table.order :
			0;
	KUNIT_EXPECT_LE(ref->test, nr * 4 * sizeof(struct pfn_table_slot),
			bytes * 3);
	KUNIT_EXPECT_EQ(ref->test, pfn_table_bytes(&ref->table),
			bytes + nr_split * PAGES * sizeof(u64));
}

/* The slot of a block; gone if it has no page. */
static struct pfn_table_slot *slot_of(struct ref *ref, unsigned int b)
{
	return pfn_table_find(&ref->table, ref->numbers[b]);
}

static void prepare(struct ref *ref)
{
	KUNIT_ASSERT_EQ(ref->test, 0,
			pfn_table_prepare(&ref->table, &ref->reserve,
					  GFP_KERNEL));
}

static u64 any_word(struct ref *ref)
{
	u64 tags = any_u64(&ref->rnd) & (SOME_TAGS | PFN_TAG_USER);

	return PFN_TAG_READ | tags | (any_u64(&ref->rnd) & PFN_TAG_PFN);
}

static u64 any_huge_word(struct ref *ref)
{
	u64 tags = any_u64(&ref->rnd) & SOME_TAGS;
	u64 pfn = any_u64(&ref->rnd) & PFN_TAG_PFN & ~(PAGES - 1);

	return PFN_TAG_READ | PFN_TAG_HUGE | tags | pfn;
}

static void ref_set_huge(struct ref *ref, unsigned int b, u64 word)
{
	unsigned int i;

	ref->huge[b] = true;
	for (i = 0; i < PAGES; i++)
		ref->words[b][i] = word + i;
}

static void op_insert_huge(struct ref *ref, unsigned int b)
{
	u64 word = any_huge_word(ref);

	prepare(ref);
	if (slot_of(ref, b))
		pfn_table_join(&ref->table, slot_of(ref, b), word);
	else
		KUNIT_ASSERT_NOT_NULL(ref->test,
				      pfn_table_insert(&ref->table,
						       ref->numbers[b], word,
						       &ref->reserve));
	ref_set_huge(ref, b, word);
}

static void new_split(struct ref *ref, unsigned int b)
{
	unsigned int first = below(&ref->rnd, PAGES);
	unsigned int behind = first + 1 + below(&ref->rnd, PAGES - first);
	u64 *words = ref->reserve.words;
	unsigned int i;

	for (i = 0; i < PAGES; i++)
		words[i] = i >= first && i < behind ? any_word(ref) : 0;
	memcpy(ref->words[b], words, sizeof(ref->words[b]));
	KUNIT_ASSERT_NOT_NULL(ref->test, pfn_table_insert_split(&ref->table,
								ref->numbers[b],
								behind - first,
								&ref->reserve));
	KUNIT_EXPECT_PTR_EQ(ref->test, NULL, ref->reserve.words);
	ref->huge[b] = false;
}

static void op_split(struct ref *ref, unsigned int b)
{
	unsigned int i;

	prepare(ref);
	if (!slot_of(ref, b)) {
		new_split(ref, b);
		return;
	}
	KUNIT_EXPECT_TRUE(ref->test,
			  pfn_table_split(&ref->table, slot_of(ref, b),
					  &ref->reserve));
	ref->huge[b] = false;
	for (i = 0; i < PAGES; i++)
		ref->words[b][i] &= ~PFN_TAG_HUGE;
}

/* Some words of a split block come, go and change. */
static void op_write(struct ref *ref, unsigned int b)
{
	struct pfn_table_slot *slot = slot_of(ref, b);
	unsigned int first = below(&ref->rnd, PAGES);
	unsigned int behind = first + 1 + below(&ref->rnd, PAGES - first);
	bool all_gone = chance(&ref->rnd, 50);
	int more = 0;

	if (!slot || ref->huge[b])
		return;
	for (; first < behind; first++) {
		u64 word = !all_gone && chance(&ref->rnd, 60) ? any_word(ref) :
								0;

		more += !!word - !!slot->words[first];
		slot->words[first] = word;
		ref->words[b][first] = word;
	}
	pfn_table_count(slot, more);
	if (!pfn_table_slot_pages(slot))
		pfn_table_erase(&ref->table, slot);
}

static void op_erase(struct ref *ref, unsigned int b)
{
	if (slot_of(ref, b))
		pfn_table_erase(&ref->table, slot_of(ref, b));
	memset(ref->words[b], 0, sizeof(ref->words[b]));
}

static void op_dirty(struct ref *ref, unsigned int b)
{
	unsigned int i = below(&ref->rnd, PAGES), j;

	if (!ref->words[b][i])
		return;
	pfn_table_set_dirty(slot_of(ref, b), i);
	for (j = 0; j < PAGES; j++)
		if (ref->huge[b] || j == i)
			ref->words[b][j] |= PFN_TAG_DIRTY;
}

/* Walk over a range; erase some of what comes. */
static void op_walk(struct ref *ref, unsigned int b, unsigned int erase)
{
	unsigned int last = b + below(&ref->rnd, BLOCKS - b), i;
	u64 before = 0, from = ref->numbers[b], to = ref->numbers[last];
	bool seen[BLOCKS] = {};
	struct pfn_table_slot *slot;
	struct pfn_table_iter iter;

	pfn_table_iter_init(&iter, &ref->table, from, to);
	while ((slot = pfn_table_next(&iter))) {
		u64 block = pfn_table_slot_block(slot);

		for (i = b; i <= last && ref->numbers[i] != block; i++)
			;
		KUNIT_ASSERT_LE(ref->test, i, last);
		KUNIT_EXPECT_NE(ref->test, ref_pages(ref, i), 0);
		if (iter.ordered)
			KUNIT_EXPECT_LE(ref->test, before, block);
		else if (!erase)
			KUNIT_EXPECT_FALSE(ref->test, seen[i]);
		seen[i] = true;
		before = block + 1;
		if (!chance(&ref->rnd, erase))
			continue;
		pfn_table_iter_erase(&iter, slot);
		memset(ref->words[i], 0, sizeof(ref->words[i]));
	}
	for (i = b; i <= last; i++)
		KUNIT_EXPECT_TRUE(ref->test, seen[i] || !ref_pages(ref, i));
}

static void op_trim(struct ref *ref)
{
	pfn_table_trim(&ref->table);
	KUNIT_EXPECT_LE(ref->test, pfn_table_bytes(&ref->table),
			ref->table.nr_split * 4096 + ref->table.nr * 64);
}

static void step(struct ref *ref, unsigned int fill)
{
	unsigned int b = below(&ref->rnd, BLOCKS);
	u32 what = below(&ref->rnd, 100);

	if (what < fill / 2)
		op_insert_huge(ref, b);
	else if (what < fill)
		op_split(ref, b);
	else if (what < fill + 15)
		op_write(ref, b);
	else if (what < fill + 20)
		op_dirty(ref, b);
	else if (what < fill + 25)
		op_walk(ref, b, 0);
	else if (what < fill + 28)
		op_walk(ref, b, 50);
	else if (what < fill + 32)
		op_trim(ref);
	else
		op_erase(ref, b);
	ref_holds_block(ref, b);
}

static void random_operations(struct kunit *test)
{
	struct ref *ref = ref_create(test);
	unsigned int i, fill = 50;

	for (i = 0; i < steps && !test->status; i++) {
		/* Times of growth, times of shrinking, some of them to nothing. */
		if (i % 256 == 0)
			fill = below(&ref->rnd, 65);
		step(ref, fill);
		if (i % 16 == 0)
			ref_holds(ref);
	}
	ref_holds(ref);
	ref_destroy(ref);
}

static void an_empty_table_has_no_memory(struct kunit *test)
{
	struct pfn_table table = {};
	struct pfn_table_iter iter;

	KUNIT_EXPECT_EQ(test, pfn_table_bytes(&table), 0);
	KUNIT_EXPECT_EQ(test, pfn_table_word(&table, 0), 0);
	KUNIT_EXPECT_EQ(test, pfn_table_word(&table, U64_MAX >> 3), 0);
	pfn_table_iter_init(&iter, &table, 0, BIT_ULL(52) - 1);
	KUNIT_EXPECT_PTR_EQ(test, NULL, pfn_table_next(&iter));
	pfn_table_trim(&table);
	pfn_table_destroy(&table);
}

static void words_keep_their_memory_bounds(struct kunit *test)
{
	struct ref *ref = ref_create(test);

	op_insert_huge(ref, 0);
	KUNIT_EXPECT_EQ(test, pfn_table_bytes(&ref->table), 64);
	op_split(ref, 0);
	KUNIT_EXPECT_LE(test, pfn_table_bytes(&ref->table), 4300);
	op_erase(ref, 0);
	pfn_table_trim(&ref->table);
	KUNIT_EXPECT_EQ(test, pfn_table_bytes(&ref->table), 0);
	ref_holds(ref);
	ref_destroy(ref);
}

/* As many blocks as a terabyte and more in one table: no chain becomes long. */
static void many_blocks(struct kunit *test)
{
	struct pfn_table table = {};
	struct pfn_table_reserve reserve = {};
	struct pfn_table_iter iter;
	const u64 nr = 1 << 16;
	u64 i, seen = 0;

	for (i = 0; i < nr; i++) {
		KUNIT_ASSERT_EQ(test, 0,
				pfn_table_prepare(&table, &reserve,
						  GFP_KERNEL));
		KUNIT_ASSERT_NOT_NULL(
			test, pfn_table_insert(&table, i * 3,
					       PFN_TAG_READ | PFN_TAG_HUGE |
						       i * PAGES,
					       &reserve));
	}
	KUNIT_EXPECT_LE(test, pfn_table_bytes(&table), nr * 64);
	for (i = 0; i < nr; i++)
		KUNIT_ASSERT_EQ(test,
				pfn_table_word(&table, i * 3 * PAGES + 5) &
					PFN_TAG_PFN,
				i * PAGES + 5);
	pfn_table_iter_init(&iter, &table, 0, BIT_ULL(52) - 1);
	KUNIT_EXPECT_FALSE(test, iter.ordered);
	while (pfn_table_next(&iter))
		seen++;
	KUNIT_EXPECT_EQ(test, seen, nr);
	pfn_table_release(&reserve);
	pfn_table_destroy(&table);
}

/* A reserve that others were faster than: nothing happens, and preparing again helps. */
static void a_reserve_can_be_too_small(struct kunit *test)
{
	struct ref *ref = ref_create(test);
	struct pfn_table_reserve late = {};
	unsigned int b;
	u64 word = any_huge_word(ref);

	KUNIT_EXPECT_EQ(test, 0,
			pfn_table_prepare(&ref->table, &late, GFP_KERNEL));
	for (b = 0; b < 6; b++)
		op_insert_huge(ref, b);
	/* 8 slots, full: the late one brings 4. */
	KUNIT_EXPECT_PTR_EQ(test, NULL,
			    pfn_table_insert(&ref->table, ref->numbers[b], word,
					     &late));
	KUNIT_EXPECT_PTR_EQ(test, NULL,
			    pfn_table_insert_split(&ref->table, ref->numbers[b],
						   1, &late));
	KUNIT_EXPECT_NOT_NULL(test, late.words);
	ref_holds(ref);
	KUNIT_EXPECT_EQ(test, 0,
			pfn_table_prepare(&ref->table, &late, GFP_KERNEL));
	KUNIT_EXPECT_NOT_NULL(test,
			      pfn_table_insert(&ref->table, ref->numbers[b],
					       word, &late));
	ref_set_huge(ref, b, word);
	ref_holds(ref);
	pfn_table_release(&late);
	ref_destroy(ref);
}

static void without_words_nothing_is_split(struct kunit *test)
{
	struct ref *ref = ref_create(test);
	struct pfn_table_reserve empty = {};

	op_insert_huge(ref, 0);
	KUNIT_EXPECT_FALSE(test, pfn_table_split(&ref->table, slot_of(ref, 0),
						 &empty));
	KUNIT_EXPECT_PTR_EQ(test, NULL,
			    pfn_table_insert_split(&ref->table, ref->numbers[1],
						   1, &empty));
	ref_holds(ref);
	op_split(ref, 0);
	KUNIT_EXPECT_TRUE(test, pfn_table_split(&ref->table, slot_of(ref, 0),
						&empty));
	ref_holds(ref);
	ref_destroy(ref);
}

#ifdef CONFIG_FAULT_INJECTION
/* Whichever allocation fails: what is there stays, and preparing again brings the rest. */
static void each_failing_step_is_harmless(struct kunit *test)
{
	struct ref *ref = ref_create(test);
	unsigned int n, b, failed = 0;
	int ret;

	for (b = 0; b < BLOCKS && !test->status; b++) {
		for (n = 1;; n++) {
			pfn_table_release(&ref->reserve);
			current->fail_nth = n;
			ret = pfn_table_prepare(&ref->table, &ref->reserve,
						GFP_KERNEL);
			if (current->fail_nth) {
				KUNIT_EXPECT_EQ(test, ret, 0);
				break;
			}
			/* Or the slots came from elsewhere. */
			KUNIT_EXPECT_TRUE(test, ret == -ENOMEM || !ret);
			failed += !!ret;
			ref_holds(ref);
		}
		current->fail_nth = 0;
		if (chance(&ref->rnd, 50))
			op_split(ref, b);
		else
			op_insert_huge(ref, b);
		ref_holds(ref);
	}
	KUNIT_EXPECT_GT(test, failed, BLOCKS);
	for (b = 1; b < BLOCKS; b++)
		op_erase(ref, b);
	current->fail_nth = 1;
	pfn_table_trim(&ref->table);
	KUNIT_EXPECT_EQ(test, current->fail_nth, 0);
	current->fail_nth = 0;
	KUNIT_EXPECT_GT(test, pfn_table_bytes(&ref->table),
			4 * sizeof(struct pfn_table_slot) +
				ref->table.nr_split * PAGES * sizeof(u64));
	ref_holds(ref);
	op_trim(ref);
	ref_holds(ref);
	ref_destroy(ref);
}
#endif

static struct kunit_case pfn_table_cases[] = {
	KUNIT_CASE(an_empty_table_has_no_memory),
	KUNIT_CASE(words_keep_their_memory_bounds),
	KUNIT_CASE(a_reserve_can_be_too_small),
	KUNIT_CASE(without_words_nothing_is_split),
	KUNIT_CASE(many_blocks),
	KUNIT_CASE(random_operations),
#ifdef CONFIG_FAULT_INJECTION
	KUNIT_CASE(each_failing_step_is_harmless),
#endif
	{}
};

static struct kunit_suite pfn_table_suite = {
	.name = "hmm_mirror_table",
	.test_cases = pfn_table_cases,
};

kunit_test_suite(pfn_table_suite);
