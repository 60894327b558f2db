// SPDX-License-Identifier: GPL-2.0
/*
 * Copyright (c) 2026 The Twostep authors
 *
 * The HMM mirror: runs of neighbouring pages (linux/hmm-mirror.h).
 *
 * The walk goes from block to block as the table gives them, and inside a block from word
 * to word. A huge block is one step. A run goes on in the next block if that is the
 * neighbour.
 */

#include <linux/export.h>
#include <linux/hmm-mirror.h>
#include <linux/mm.h>

#include "hmm-mirror-internal.h"

#define PAGES PFN_TABLE_BLOCK_PAGES

static void next_block(struct hmm_mirror_iter *iter)
{
	u64 first = hmm_mirror_index(iter->mirror, iter->start);

	iter->slot = pfn_table_next(&iter->blocks);
	iter->i = 0;
	if (iter->slot &&
	    pfn_table_slot_block(iter->slot) == first >> PFN_TABLE_BLOCK_ORDER)
		iter->i = first & (PAGES - 1);
}

/* Behind the last page of the range in the block at hand. */
static unsigned int block_end(const struct hmm_mirror_iter *iter)
{
	u64 last = hmm_mirror_index(iter->mirror, iter->end - 1);

	if (pfn_table_slot_block(iter->slot) == last >> PFN_TABLE_BLOCK_ORDER)
		return (last & (PAGES - 1)) + 1;
	return PAGES;
}

static unsigned long page_addr(const struct hmm_mirror_iter *iter)
{
	u64 block = pfn_table_slot_block(iter->slot);

	return iter->mirror->base + block * PFN_TABLE_BLOCK_SIZE +
	       iter->i * PAGE_SIZE;
}

static bool wanted(const struct hmm_mirror_iter *iter, u64 word)
{
	return word && (word & iter->want) == iter->want;
}

/* Go to the first wanted page from here on. Returns its word, 0 if there is none. */
static u64 find_wanted(struct hmm_mirror_iter *iter)
{
	unsigned int end;
	u64 word;

	for (; iter->slot; next_block(iter)) {
		end = block_end(iter);
		if (!pfn_table_slot_split(iter->slot)) {
			word = pfn_table_slot_word(iter->slot, iter->i);
			if (iter->i < end && wanted(iter, word))
				return word;
			continue;
		}
		for (; iter->i < end; iter->i++) {
			word = READ_ONCE(iter->slot->words[iter->i]);
			if (wanted(iter, word))
				return word;
		}
	}
	return 0;
}

/*
 * How many of @nr words go on with a run whose next word would be @next. What it costs a page,
 * an invalidation costs a page.
 */
static unsigned int count_words(const struct hmm_mirror_iter *iter,
				const u64 *words, unsigned int nr, u64 next)
{
	const u64 want = iter->want, same = iter->same;
	const u64 step = same & PFN_TAG_PFN ? 1 : 0;
	unsigned int i = 0;
	u64 word;

	/* What zap and unlink ask for: whatever the pages are. */
	if (want && !same) {
		while (i < nr && (READ_ONCE(words[i]) & want) == want)
			i++;
		return i;
	}
	for (; i < nr; i++, next += step) {
		word = READ_ONCE(words[i]);
		if (!word || (word & want) != want || (word ^ next) & same)
			break;
	}
	return i;
}

/* Take the pages of the block at hand that go on with a run. Returns true if all do. */
static bool take_pages(struct hmm_mirror_iter *iter, struct hmm_mirror_run *run)
{
	unsigned int left = block_end(iter) - iter->i, taken = left;
	u64 next = run->word;
	u64 word;

	if (iter->same & PFN_TAG_PFN)
		next += run->nr;
	if (pfn_table_slot_split(iter->slot)) {
		taken = count_words(iter, iter->slot->words + iter->i, left,
				    next);
	} else {
		word = pfn_table_slot_word(iter->slot, iter->i);
		if (!wanted(iter, word) || (word ^ next) & iter->same)
			taken = 0;
	}
	run->nr += taken;
	iter->i += taken;
	return taken == left;
}

/**
 * hmm_mirror_runs() - begin a walk over the runs of a range
 * @iter: the walk
 * @mirror: the mirror, locked at least shared until the end of the walk
 * @start: first address; what is outside the mirror's range is left out
 * @end: behind the last
 * @want: see &struct hmm_mirror_iter
 * @same: see &struct hmm_mirror_iter
 *
 * May be called again on the same walk, to begin anew.
 */
void hmm_mirror_runs(struct hmm_mirror_iter *iter, struct hmm_mirror *mirror,
		     unsigned long start, unsigned long end, u64 want, u64 same)
{
	struct hmm_mirror_span span = { start, end };
	bool some = hmm_mirror_clamp(mirror, &span);

	lockdep_assert_held(&mirror->lock);
	iter->mirror = mirror;
	iter->start = span.start;
	iter->end = span.end;
	iter->want = want;
	iter->same = same;
	iter->slot = NULL;
	iter->i = 0;
	if (!some)
		return;
	hmm_mirror_blocks(&iter->blocks, mirror, &span);
	next_block(iter);
}
EXPORT_SYMBOL_GPL(hmm_mirror_runs);

/**
 * hmm_mirror_any_run() - whether a walk has a run left
 * @iter: the walk; the run stays its next one
 *
 * Return: false at the end.
 */
bool hmm_mirror_any_run(struct hmm_mirror_iter *iter)
{
	return find_wanted(iter);
}

/**
 * hmm_mirror_next_run() - the next run of a walk
 * @iter: the walk
 * @run: out: the run
 *
 * Return: false at the end.
 */
bool hmm_mirror_next_run(struct hmm_mirror_iter *iter,
			 struct hmm_mirror_run *run)
{
	unsigned long behind;

	run->word = find_wanted(iter);
	if (!run->word)
		return false;
	run->addr = page_addr(iter);
	run->nr = 0;
	while (take_pages(iter, run)) {
		next_block(iter);
		behind = run->addr + run->nr * PAGE_SIZE;
		if (!iter->slot || !iter->blocks.ordered ||
		    page_addr(iter) != behind)
			break;
	}
	return true;
}
EXPORT_SYMBOL_GPL(hmm_mirror_next_run);
