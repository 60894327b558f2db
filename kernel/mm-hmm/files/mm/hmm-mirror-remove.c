// SPDX-License-Identifier: GPL-2.0
/*
 * Copyright (c) 2026 The Twostep authors
 *
 * The HMM mirror: how pages are taken out (linux/hmm-mirror.h).
 *
 * Taking out goes over the blocks of a range several times, in the order that the device's
 * safety asks for: zap all, unlink all with one flush, and only then change words: a word
 * that goes has its page marked dirty first, if the device may have written it.
 *
 * Two ranges are at work. Asked for are the pages whose words must go. Unlinked are these
 * and what shares an I/O entry with the first or the last of them; those pages stay
 * present, and remember by DIRTY what MAPPED and WRITE had said. A HUGE word cannot
 * remember for single pages: it goes as a whole.
 */

#include <linux/hmm-mirror.h>
#include <linux/mm.h>
#include <linux/pagemap.h>

#include "hmm-mirror-internal.h"

#define PAGES PFN_TABLE_BLOCK_PAGES

static unsigned int page_at(const struct hmm_mirror *mirror, unsigned long addr)
{
	return hmm_mirror_index(mirror, addr) & (PAGES - 1);
}

/* Whether word @b may lie in one entry behind its neighbour @a. */
static bool shares_entry(u64 a, u64 b)
{
	const u64 own = PFN_TAG_DIRTY | PFN_TAG_USER;

	return a & PFN_TAG_MAPPED && !((b ^ (a + 1)) & ~own);
}

/* Whether one entry may map all of a split block. */
static bool is_one_entry(const u64 *words)
{
	unsigned int i;

	if (words[0] & (PAGES - 1) ||
	    !shares_entry(words[0] + PAGES - 2, words[PAGES - 1]))
		return false;
	for (i = 1; i < PAGES; i++)
		if (!shares_entry(words[i - 1], words[i]))
			return false;
	return true;
}

/* The pages that may share an entry with page @i: [first, behind). */
static void find_entry(const struct hmm_mirror *mirror,
		       const struct pfn_table_slot *slot, unsigned int i,
		       unsigned int *first, unsigned int *behind)
{
	const u64 *words = slot->words;

	*first = i;
	*behind = i + 1;
	if (!pfn_table_slot_split(slot) || is_one_entry(words)) {
		*first = 0;
		*behind = PAGES;
		return;
	}
	if (!mirror->whole_runs)
		return;
	while (*first && shares_entry(words[*first - 1], words[*first]))
		--*first;
	while (*behind < PAGES &&
	       shares_entry(words[*behind - 1], words[*behind]))
		++*behind;
}

static void grow(struct hmm_mirror_span *span, unsigned long start,
		 unsigned long end)
{
	span->start = min(span->start, start);
	span->end = max(span->end, end);
}

/* Let spans grow to the border of what cannot be cut at the page of an address. */
static void grow_at(const struct hmm_mirror *mirror, unsigned long addr,
		    struct hmm_mirror_span *asked,
		    struct hmm_mirror_span *unlinked)
{
	struct pfn_table_slot *slot = hmm_mirror_slot_at(mirror, addr);
	unsigned int first, behind;
	unsigned long block;

	if (!slot)
		return;
	find_entry(mirror, slot, page_at(mirror, addr), &first, &behind);
	block = hmm_mirror_block_addr(mirror, pfn_table_slot_block(slot));
	grow(unlinked, block + first * PAGE_SIZE, block + behind * PAGE_SIZE);
	if (asked && !pfn_table_slot_split(slot))
		grow(asked, block, block + PFN_TABLE_BLOCK_SIZE);
}

/**
 * hmm_mirror_any_mapped() - whether the device can use a page of a span
 * @mirror: the mirror, locked
 * @span: inside its range
 *
 * Return: true if a word is MAPPED.
 */
bool hmm_mirror_any_mapped(struct hmm_mirror *mirror,
			   const struct hmm_mirror_span *span)
{
	struct hmm_mirror_iter runs;

	if (!mirror->ops->link)
		return false;
	hmm_mirror_runs(&runs, mirror, span->start, span->end, PFN_TAG_MAPPED,
			0);
	return hmm_mirror_any_run(&runs);
}

/* End the device's reach to what is MAPPED. The words still say MAPPED. */
static void end_reach(struct hmm_mirror *mirror,
		      const struct hmm_mirror_span *span, bool zap)
{
	const struct hmm_mirror_ops *ops = mirror->ops;
	struct hmm_mirror_iter runs;

	if (!hmm_mirror_any_mapped(mirror, span))
		return;
	if (zap && ops->zap) {
		hmm_mirror_runs(&runs, mirror, span->start, span->end,
				PFN_TAG_MAPPED, 0);
		ops->zap(mirror, &runs);
	}
	if (ops->unlink) {
		hmm_mirror_runs(&runs, mirror, span->start, span->end,
				PFN_TAG_MAPPED, 0);
		ops->unlink(mirror, &runs);
	}
}

static bool was_written(u64 word)
{
	return word & PFN_TAG_DIRTY ||
	       (word & PFN_TAG_MAPPED && word & PFN_TAG_WRITE);
}

/* Take MAPPED from a word that stays. Returns whether it had it. */
static bool unmap_word(u64 *word)
{
	if (!(*word & PFN_TAG_MAPPED))
		return false;
	if (was_written(*word))
		*word |= PFN_TAG_DIRTY;
	*word &= ~PFN_TAG_MAPPED;
	return true;
}

static unsigned int unmap_block(struct pfn_table_slot *slot, unsigned int first,
				unsigned int behind)
{
	unsigned int unlinked = 0;

	if (!pfn_table_slot_split(slot))
		return unmap_word(&slot->word) ? PAGES : 0;
	for (; first < behind; first++)
		unlinked += unmap_word(&slot->words[first]);
	return unlinked;
}

/**
 * hmm_mirror_unlink() - unlink pages that stay in the table
 * @mirror: the mirror, locked exclusively
 * @start: first address
 * @end: behind the last
 *
 * What shares an I/O entry with the first or the last page is unlinked as well.
 */
void hmm_mirror_unlink(struct hmm_mirror *mirror, unsigned long start,
		       unsigned long end)
{
	struct hmm_mirror_span span = { .start = start, .end = end };
	struct pfn_table_slot *slot;
	struct pfn_table_iter iter;
	unsigned int first, behind;
	unsigned long unlinked = 0;

	lockdep_assert_held_write(&mirror->lock);
	grow_at(mirror, start, NULL, &span);
	grow_at(mirror, end - 1, NULL, &span);
	end_reach(mirror, &span, true);
	hmm_mirror_blocks(&iter, mirror, &span);
	while ((slot = pfn_table_next(&iter))) {
		hmm_mirror_clip(mirror, &span, pfn_table_slot_block(slot),
				&first, &behind);
		unlinked += unmap_block(slot, first, behind);
	}
	atomic64_add(unlinked, &mirror->stats.unlinked_pages);
}

/**
 * struct removal - words on their way out
 * @mirror: the mirror
 * @asked: whose words go
 * @unlinked: what was unlinked
 * @last: the folio that was marked dirty last
 * @pages: pages whose words went
 * @nr_unlinked: pages that were MAPPED
 */
struct removal {
	struct hmm_mirror *mirror;
	struct hmm_mirror_span asked;
	struct hmm_mirror_span unlinked;
	struct folio *last;
	unsigned long pages;
	unsigned long nr_unlinked;
};

/*
 * The folio cannot be truncated meanwhile: whoever takes its page from the process waits
 * for the notification that we are in, or for our lock.
 */
static void mark_dirty(struct removal *removal, u64 word)
{
	struct folio *folio;

	if (!was_written(word) || pfn_tag_kind(word) != PFN_KIND_REGULAR)
		return;
	folio = page_folio(pfn_to_page(word & PFN_TAG_PFN));
	if (folio == removal->last)
		return;
	removal->last = folio;
	/* Of anonymous memory the flag is all there is to do. Files may have more. */
	if (!folio_test_anon(folio) || !folio_test_dirty(folio))
		folio_mark_dirty(folio);
}

static void remove_word(struct removal *removal, u64 *word)
{
	mark_dirty(removal, *word);
	removal->nr_unlinked += !!(*word & PFN_TAG_MAPPED);
	*word = 0;
}

/* Returns false if the block is empty now. */
static bool remove_from_split(struct removal *removal,
			      struct pfn_table_slot *slot)
{
	u64 block = pfn_table_slot_block(slot);
	unsigned int i, first, behind, gone = 0, unlinked;

	hmm_mirror_clip(removal->mirror, &removal->asked, block, &first,
			&behind);
	for (i = first; i < behind; i++) {
		if (!slot->words[i])
			continue;
		remove_word(removal, &slot->words[i]);
		gone++;
	}
	removal->pages += gone;
	pfn_table_count(slot, -(int)gone);
	if (!pfn_table_slot_pages(slot))
		return false;

	i = behind;
	hmm_mirror_clip(removal->mirror, &removal->unlinked, block, &unlinked,
			&behind);
	removal->nr_unlinked += unmap_block(slot, unlinked, first);
	removal->nr_unlinked += unmap_block(slot, i, behind);
	return true;
}

static void remove_words(struct removal *removal)
{
	struct hmm_mirror *mirror = removal->mirror;
	struct pfn_table_slot *slot;
	struct pfn_table_iter iter;

	hmm_mirror_blocks(&iter, mirror, &removal->asked);
	while ((slot = pfn_table_next(&iter))) {
		if (pfn_table_slot_split(slot)) {
			if (!remove_from_split(removal, slot))
				pfn_table_iter_erase(&iter, slot);
			continue;
		}
		mark_dirty(removal, slot->word);
		removal->pages += PAGES;
		if (slot->word & PFN_TAG_MAPPED)
			removal->nr_unlinked += PAGES;
		pfn_table_iter_erase(&iter, slot);
	}
}

/**
 * hmm_mirror_remove() - take pages out
 * @mirror: the mirror, locked exclusively
 * @span: what is asked for; what is outside the mirror's range is left out
 * @zap: whether the device still has to forget them
 *
 * Return: pages that went.
 */
unsigned long hmm_mirror_remove(struct hmm_mirror *mirror,
				struct hmm_mirror_span span, bool zap)
{
	struct removal removal = { .mirror = mirror };

	if (!hmm_mirror_clamp(mirror, &span) || !mirror->table.nr)
		return 0;
	removal.asked = span;
	removal.unlinked = span;
	grow_at(mirror, span.start, &removal.asked, &removal.unlinked);
	grow_at(mirror, span.end - 1, &removal.asked, &removal.unlinked);
	end_reach(mirror, &removal.unlinked, zap);
	remove_words(&removal);
	atomic64_add(removal.nr_unlinked, &mirror->stats.unlinked_pages);
	return removal.pages;
}
