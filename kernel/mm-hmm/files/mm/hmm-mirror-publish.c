// SPDX-License-Identifier: GPL-2.0
/*
 * Copyright (c) 2026 The Twostep authors
 *
 * The HMM mirror: how what a walk found becomes words of the table, and how those are
 * linked (linux/hmm-mirror.h).
 *
 * Both run under the exclusive lock, after the check that no invalidation came since the
 * walk began. What the walk found is therefore true, and what the table has is true as
 * well: they can differ only in what is absent, and in rights. A word that says
 * another page nevertheless is taken out as an invalidation would, but for dirty:
 * its page may be somebody else's by now.
 *
 * A new block becomes the very memory that the walk wrote.
 */

#include <linux/build_bug.h>
#include <linux/hmm.h>
#include <linux/hmm-mirror.h>
#include <linux/memremap.h>
#include <linux/mm.h>

#include "hmm-mirror-internal.h"

#define PAGES PFN_TABLE_BLOCK_PAGES

/* Two words are of one page, reached the same way. */
#define SAME_PAGE (PFN_TAG_PFN | PFN_TAG_KIND)

static_assert(HMM_PFN_VALID == PFN_TAG_READ);
static_assert(HMM_PFN_WRITE == PFN_TAG_WRITE);
static_assert(!(PFN_TAG_PFN & HMM_PFN_FLAGS));

#ifdef CONFIG_ZONE_DEVICE
/* Whether a page is ordinary memory, as all that is online in a section without devices. */
static bool is_ordinary(struct hmm_mirror_part *part, unsigned long pfn)
{
	unsigned long nr = pfn_to_section_nr(pfn);
	struct mem_section *section;

	if (likely(part->ordinary == nr + 1))
		return true;
	section = __pfn_to_section(pfn);
	if (!online_section(section) || online_device_section(section))
		return pfn_to_online_page(pfn);
	part->ordinary = nr + 1;
	return true;
}
#else
static bool is_ordinary(struct hmm_mirror_part *part, unsigned long pfn)
{
	return true;
}
#endif

/* How the device reaches a page of a device. Of one that it does not reach nothing is left. */
static u64 with_kind(struct hmm_mirror *mirror, struct hmm_mirror_part *part,
		     u64 word)
{
	struct page *page = pfn_to_page(word & PFN_TAG_PFN);
	int kind = PFN_KIND_REGULAR;

	if (is_device_private_page(page))
		kind = PFN_KIND_DEVICE_PRIVATE;
	else if (is_pci_p2pdma_page(page))
		kind = mirror->ops->kind ? mirror->ops->kind(mirror, page) :
					   -EREMOTEIO;
	if (kind < 0) {
		part->refused = kind;
		return 0;
	}
	word |= (u64)kind << PFN_TAG_KIND_SHIFT;
	if (!pfn_tag_linkable(word))
		part->special = true;
	return word;
}

/* The word for what hmm_range_fault() said of a page. */
static u64 word_of(struct hmm_mirror *mirror, struct hmm_mirror_part *part,
		   u64 found)
{
	u64 word = found & (PFN_TAG_READ | part->grant | PFN_TAG_PFN);

	if (!(word & PFN_TAG_READ))
		return 0;
	if (unlikely(!is_ordinary(part, word & PFN_TAG_PFN)))
		return with_kind(mirror, part, word);
	return word;
}

static u64 page_addr(const struct hmm_mirror *mirror,
		     const struct hmm_mirror_part *part, unsigned int i)
{
	return hmm_mirror_block_addr(mirror, part->block) + i * PAGE_SIZE;
}

static struct pfn_table_slot *find(struct hmm_mirror *mirror,
				   const struct hmm_mirror_part *part)
{
	return pfn_table_find(&mirror->table, part->block);
}

/* Take the whole block out, for words of other pages. */
static void drop_block(struct hmm_mirror *mirror,
		       const struct hmm_mirror_part *part)
{
	hmm_mirror_unlink(mirror, page_addr(mirror, part, 0),
			  page_addr(mirror, part, PAGES));
	pfn_table_erase(&mirror->table, find(mirror, part));
}

/* The new block is the memory that the walk wrote. */
static int publish_new(struct hmm_mirror *mirror, struct hmm_mirror_part *part,
		       struct pfn_table_reserve *reserve)
{
	unsigned int i, count = 0;
	u64 *words = part->found;

	for (i = part->first; i < part->behind; i++) {
		words[i] = word_of(mirror, part, words[i]);
		count += !!words[i];
	}
	if (!count)
		return 0;
	memset(words, 0, part->first * sizeof(*words));
	memset(words + part->behind, 0,
	       (PAGES - part->behind) * sizeof(*words));
	return pfn_table_insert_split(&mirror->table, part->block, count,
				      reserve) ?
		       0 :
		       -EAGAIN;
}

/* Whether a MAPPED word has to be unlinked before a new one can be linked. */
static bool must_unlink(u64 old, u64 fresh)
{
	if (!fresh || !(old & PFN_TAG_MAPPED))
		return false;
	return (old ^ fresh) & SAME_PAGE || fresh & ~old & PFN_TAG_ACCESS;
}

/* A page's word once more: what is not the walk's to say stays. */
static u64 merged(u64 old, u64 fresh)
{
	if ((old ^ fresh) & SAME_PAGE)
		return fresh;
	return old | (fresh & PFN_TAG_ACCESS);
}

static void publish_words(struct hmm_mirror *mirror,
			  struct hmm_mirror_part *part,
			  struct pfn_table_slot *slot, unsigned int first,
			  unsigned int behind)
{
	unsigned int i, low = PAGES, high = 0;
	u64 *words = slot->words, *fresh = part->found;
	int more = 0;

	for (i = first; i < behind; i++) {
		fresh[i] = word_of(mirror, part, fresh[i]);
		if (must_unlink(words[i], fresh[i])) {
			low = min(low, i);
			high = i + 1;
		}
	}
	if (high)
		hmm_mirror_unlink(mirror, page_addr(mirror, part, low),
				  page_addr(mirror, part, high));
	for (i = first; i < behind; i++) {
		if (!fresh[i])
			continue;
		more += !words[i];
		words[i] = words[i] ? merged(words[i], fresh[i]) : fresh[i];
	}
	pfn_table_count(slot, more);
}

/* Whether a HUGE word already says all that was found in its block. */
static bool huge_says(struct hmm_mirror *mirror, struct hmm_mirror_part *part,
		      u64 word)
{
	unsigned int i;
	u64 fresh;

	for (i = part->first; i < part->behind; i++) {
		fresh = word_of(mirror, part, part->found[i]);
		if (fresh && (((word + i) ^ fresh) & SAME_PAGE ||
			      fresh & ~word & PFN_TAG_ACCESS))
			return false;
	}
	return true;
}

/* Small pages where the table has a huge one. The kernel cuts none without telling us. */
static int publish_over_huge(struct hmm_mirror *mirror,
			     struct hmm_mirror_part *part,
			     struct pfn_table_slot *slot,
			     struct pfn_table_reserve *reserve)
{
	if (huge_says(mirror, part, slot->word))
		return 0;
	drop_block(mirror, part);
	return publish_new(mirror, part, reserve);
}

/* The HUGE word for what was found, 0 if the block is not to have one. */
static u64 huge_word(struct hmm_mirror *mirror, struct hmm_mirror_part *part)
{
	u64 word = word_of(mirror, part, part->found[part->first]);

	if (!word)
		return 0;
	word -= part->first;
	if (WARN_ON_ONCE(word & (PAGES - 1))) {
		part->refused = -EIO;
		return 0;
	}
	return word | PFN_TAG_HUGE;
}

/**
 * struct survey - a split block, compared with a huge page that maps all of it
 * @other: a word is of another page
 * @richer: a word has what the HUGE one cannot have: user bits, more rights
 * @ready: all pages are there, with the rights and, if possible, MAPPED
 * @dirty: PFN_TAG_DIRTY if a word has it
 */
struct survey {
	bool other;
	bool richer;
	bool ready;
	u64 dirty;
};

static struct survey survey_words(const struct hmm_mirror *mirror,
				  const u64 *words, u64 huge)
{
	u64 need = (huge & PFN_TAG_ACCESS) |
		   (mirror->ops->link ? PFN_TAG_MAPPED : 0);
	struct survey survey = { .ready = true };
	unsigned int i;

	for (i = 0; i < PAGES; i++) {
		survey.ready &= (words[i] & need) == need;
		if (!words[i])
			continue;
		survey.other |= !!((words[i] ^ (huge + i)) & SAME_PAGE);
		survey.richer |= !!(words[i] &
				    (PFN_TAG_USER | (PFN_TAG_ACCESS & ~huge)));
		survey.dirty |= words[i] & PFN_TAG_DIRTY;
	}
	return survey;
}

/* A huge page where the table has words of small ones: the same pages, most likely. */
static int huge_over_split(struct hmm_mirror *mirror,
			   struct hmm_mirror_part *part,
			   struct pfn_table_slot *slot, u64 huge,
			   struct pfn_table_reserve *reserve)
{
	struct survey survey = survey_words(mirror, slot->words, huge);
	unsigned int i;

	if (survey.other) {
		drop_block(mirror, part);
		return pfn_table_insert(&mirror->table, part->block, huge,
					reserve) ?
			       0 :
			       -EAGAIN;
	}
	if (survey.ready)
		return 0;
	if (survey.richer) {
		for (i = 0; i < PAGES; i++)
			part->found[i] = huge + i;
		publish_words(mirror, part, slot, 0, PAGES);
		return 0;
	}
	hmm_mirror_unlink(mirror, page_addr(mirror, part, 0),
			  page_addr(mirror, part, PAGES));
	survey = survey_words(mirror, slot->words, huge);
	pfn_table_join(&mirror->table, slot, huge | survey.dirty);
	return 0;
}

static int huge_over_huge(struct hmm_mirror *mirror,
			  struct hmm_mirror_part *part,
			  struct pfn_table_slot *slot, u64 huge)
{
	if (must_unlink(slot->word, huge))
		hmm_mirror_unlink(mirror, page_addr(mirror, part, 0),
				  page_addr(mirror, part, PAGES));
	slot->word = merged(slot->word, huge);
	return 0;
}

static int publish_huge(struct hmm_mirror *mirror, struct hmm_mirror_part *part,
			u64 huge, struct pfn_table_reserve *reserve)
{
	struct pfn_table_slot *slot = find(mirror, part);

	if (!slot)
		return pfn_table_insert(&mirror->table, part->block, huge,
					reserve) ?
			       0 :
			       -EAGAIN;
	if (pfn_table_slot_split(slot))
		return huge_over_split(mirror, part, slot, huge, reserve);
	return huge_over_huge(mirror, part, slot, huge);
}

/**
 * hmm_mirror_publish() - put into the table what a walk found
 * @mirror: the mirror, locked exclusively, no invalidation since the walk began
 * @part: what was found; not valid any more afterwards
 * @reserve: its words are @part's
 *
 * Return: 0, or -EAGAIN if the reserve must be prepared, and the walk done, again.
 */
int hmm_mirror_publish(struct hmm_mirror *mirror, struct hmm_mirror_part *part,
		       struct pfn_table_reserve *reserve)
{
	struct pfn_table_slot *slot;
	u64 huge;

	lockdep_assert_held_write(&mirror->lock);
	if (hmm_mirror_fails(HMM_MIRROR_SEAM_ROOM))
		return -EAGAIN;
	if (part->huge) {
		huge = huge_word(mirror, part);
		return huge ? publish_huge(mirror, part, huge, reserve) : 0;
	}
	slot = find(mirror, part);
	if (!slot)
		return publish_new(mirror, part, reserve);
	if (!pfn_table_slot_split(slot))
		return publish_over_huge(mirror, part, slot, reserve);
	publish_words(mirror, part, slot, part->first, part->behind);
	return 0;
}

/* Kinds without an IOVA: nothing to link, but the device is to be zapped before they go. */
static unsigned int mark_special(u64 *words, unsigned int nr)
{
	unsigned int i, marked = 0;

	for (i = 0; i < nr; i++) {
		if (!words[i] || words[i] & PFN_TAG_MAPPED ||
		    pfn_tag_linkable(words[i]))
			continue;
		words[i] |= PFN_TAG_MAPPED;
		marked++;
	}
	return marked;
}

static unsigned int count_linkable(const u64 *words, unsigned int nr)
{
	unsigned int i, count = 0;

	for (i = 0; i < nr; i++)
		count += pfn_tag_linkable(words[i]);
	return count;
}

/**
 * hmm_mirror_link() - link the pages of a part that are not yet
 * @mirror: the mirror, locked exclusively
 * @part: its pages
 *
 * Return: 0, or what ->link() said; some pages may be linked then.
 */
int hmm_mirror_link(struct hmm_mirror *mirror,
		    const struct hmm_mirror_part *part)
{
	struct pfn_table_slot *slot = find(mirror, part);
	unsigned int nr = part->behind - part->first;
	unsigned int i = part->first, unit = 1;
	long linked;
	u64 *words;
	size_t done;
	int ret = 0;

	if (!mirror->ops->link || !slot)
		return 0;
	if (hmm_mirror_fails(HMM_MIRROR_SEAM_LINK))
		return -ENOMEM;
	words = pfn_table_slot_split(slot) ? slot->words + i : &slot->word;
	if (!pfn_table_slot_split(slot)) {
		nr = 1;
		i = 0;
		unit = PAGES;
	}
	linked = count_linkable(words, nr);
	if (linked)
		ret = mirror->ops->link(mirror, page_addr(mirror, part, i),
					words, nr, &done, GFP_NOWAIT);
	/* Negative if the failure took back what was linked before. */
	if (ret)
		linked -= count_linkable(words, nr);
	if (part->special && !ret)
		linked += mark_special(words, nr);
	atomic64_add(linked * unit, &mirror->stats.linked_pages);
	return ret;
}
