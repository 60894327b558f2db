// SPDX-License-Identifier: GPL-2.0
/*
 * Copyright (c) 2026 The Twostep authors
 *
 * The sparse table of tagged PFNs (linux/pfn-table.h): its hash table of blocks.
 *
 * Open addressing, linear probing: a block sits at its hash or in the slots right behind,
 * with no empty slot between. An erasure keeps that by moving later blocks back into the
 * gap, so there are no tombstones and a miss ends at the first empty slot.
 *
 * There is no order in it. The blocks of a range are found by asking for each number,
 * or, when the range has more numbers than the table has slots, by reading all slots.
 *
 * The table grows by replacing the slots with twice as many, that a reserve brought, and
 * shrinks only when it is told to.
 */

#include <linux/bug.h>
#include <linux/export.h>
#include <linux/minmax.h>
#include <linux/mm.h>
#include <linux/pfn-table.h>
#include <linux/slab.h>
#include <linux/string.h>

#include "hmm-mirror-internal.h"

#define MIN_ORDER 2

/* How many blocks a number of slots holds. */
static unsigned long capacity(unsigned int order)
{
	return order ? 3UL << (order - 2) : 0;
}

static struct pfn_table_slot *alloc_slots(unsigned int order, gfp_t gfp)
{
	if (hmm_mirror_fails(HMM_MIRROR_SEAM_TABLE))
		return NULL;
	return kvcalloc(BIT(order), sizeof(struct pfn_table_slot),
			gfp | __GFP_NOWARN);
}

static u64 *alloc_words(gfp_t gfp)
{
	if (hmm_mirror_fails(HMM_MIRROR_SEAM_TABLE))
		return NULL;
	return kmalloc_array(PFN_TABLE_BLOCK_PAGES, sizeof(u64), gfp);
}

/**
 * pfn_table_prepare() - get the memory that one more block can need
 * @table: the table; not necessarily locked
 * @reserve: filled up
 * @gfp: how to allocate
 *
 * Others may use up the table's room before the caller has the lock: then inserting says
 * so, and this is called again.
 *
 * Return: 0 or -ENOMEM; what @reserve got until then it keeps.
 */
int pfn_table_prepare(const struct pfn_table *table,
		      struct pfn_table_reserve *reserve, gfp_t gfp)
{
	unsigned int order = READ_ONCE(table->order);
	unsigned long nr = READ_ONCE(table->nr);

	if (!reserve->words)
		reserve->words = alloc_words(gfp);
	if (!reserve->words)
		return -ENOMEM;
	if (nr < capacity(order))
		return 0;

	order = max(order + 1, MIN_ORDER);
	if (reserve->slots && reserve->order == order)
		return 0;
	kvfree(reserve->slots);
	reserve->slots = alloc_slots(order, gfp);
	reserve->order = reserve->slots ? order : 0;
	return reserve->slots ? 0 : -ENOMEM;
}
EXPORT_SYMBOL_GPL(pfn_table_prepare);

/**
 * pfn_table_release() - give back what was not needed
 * @reserve: empty afterwards
 */
void pfn_table_release(struct pfn_table_reserve *reserve)
{
	kfree(reserve->words);
	kvfree(reserve->slots);
	*reserve = (struct pfn_table_reserve){};
}
EXPORT_SYMBOL_GPL(pfn_table_release);

static unsigned long next_slot(const struct pfn_table *table, unsigned long at)
{
	return (at + 1) & (BIT(table->order) - 1);
}

/* The empty slot where a block that is not in the table goes. */
static struct pfn_table_slot *empty_slot(struct pfn_table *table, u64 block)
{
	unsigned long at = pfn_table_hash(block, table->order);

	while (table->slots[at].key)
		at = next_slot(table, at);
	return &table->slots[at];
}

/* Move the blocks to other slots; returns the old ones. */
static struct pfn_table_slot *replace_slots(struct pfn_table *table,
					    struct pfn_table_slot *slots,
					    unsigned int order)
{
	struct pfn_table_slot *old = table->slots, *slot;
	unsigned long nr_old = old ? BIT(table->order) : 0;

	table->slots = slots;
	WRITE_ONCE(table->order, order);
	for (slot = old; slot < old + nr_old; slot++)
		if (slot->key)
			*empty_slot(table, pfn_table_slot_block(slot)) = *slot;
	return old;
}

/* Make room for one more block. Returns false if the reserve cannot. */
static bool make_room(struct pfn_table *table,
		      struct pfn_table_reserve *reserve)
{
	if (table->nr < capacity(table->order))
		return true;
	if (!reserve->slots || reserve->order <= table->order)
		return false;
	reserve->slots = replace_slots(table, reserve->slots, reserve->order);
	reserve->order = 0;
	return true;
}

static struct pfn_table_slot *insert(struct pfn_table *table, u64 block,
				     u64 bits,
				     struct pfn_table_reserve *reserve)
{
	struct pfn_table_slot *slot;

	if (!make_room(table, reserve))
		return NULL;
	slot = empty_slot(table, block);
	slot->key = block << PFN_TABLE_KEY_BLOCK_SHIFT | PFN_TABLE_KEY_TAKEN |
		    bits;
	WRITE_ONCE(table->nr, table->nr + 1);
	return slot;
}

static bool is_huge_word(u64 word)
{
	return word & PFN_TAG_READ && word & PFN_TAG_HUGE &&
	       !(word & (PFN_TAG_USER | (PFN_TABLE_BLOCK_PAGES - 1)));
}

/**
 * pfn_table_insert() - add a huge block
 * @table: the table, locked exclusively
 * @block: page index / 512; not in the table
 * @word: its HUGE word
 * @reserve: prepared
 *
 * Return: the new block's slot, NULL if the reserve must be prepared again.
 */
struct pfn_table_slot *pfn_table_insert(struct pfn_table *table, u64 block,
					u64 word,
					struct pfn_table_reserve *reserve)
{
	struct pfn_table_slot *slot = insert(table, block, 0, reserve);

	WARN_ON_ONCE(!is_huge_word(word));
	if (slot)
		slot->word = word;
	return slot;
}
EXPORT_SYMBOL_GPL(pfn_table_insert);

static u64 count_bits(unsigned int count)
{
	return (u64)count << PFN_TABLE_KEY_COUNT_SHIFT;
}

/**
 * pfn_table_insert_split() - add a split block
 * @table: the table, locked exclusively
 * @block: page index / 512; not in the table
 * @count: how many of the words are not 0, at least 1
 * @reserve: prepared; its words, all 512 filled in, become the block's
 *
 * Return: the new block's slot, NULL if the reserve must be prepared again.
 */
struct pfn_table_slot *pfn_table_insert_split(struct pfn_table *table,
					      u64 block, unsigned int count,
					      struct pfn_table_reserve *reserve)
{
	struct pfn_table_slot *slot;

	WARN_ON_ONCE(!count || count > PFN_TABLE_BLOCK_PAGES);
	if (!reserve->words)
		return NULL;
	slot = insert(table, block, PFN_TABLE_KEY_SPLIT | count_bits(count),
		      reserve);
	if (slot) {
		slot->words = reserve->words;
		reserve->words = NULL;
		table->nr_split++;
	}
	return slot;
}
EXPORT_SYMBOL_GPL(pfn_table_insert_split);

/**
 * pfn_table_split() - give each page of a huge block its own word
 * @table: the table, locked exclusively
 * @slot: the block
 * @reserve: brings the words
 *
 * The new words have all that the HUGE one had, but HUGE.
 *
 * Return: false if the reserve must be prepared again; true also for a split block.
 */
bool pfn_table_split(struct pfn_table *table, struct pfn_table_slot *slot,
		     struct pfn_table_reserve *reserve)
{
	u64 word = slot->word & ~PFN_TAG_HUGE;
	u64 *words = reserve->words;
	unsigned int i;

	if (pfn_table_slot_split(slot))
		return true;
	if (!words)
		return false;
	for (i = 0; i < PFN_TABLE_BLOCK_PAGES; i++)
		words[i] = word + i;
	reserve->words = NULL;
	slot->words = words;
	slot->key |= PFN_TABLE_KEY_SPLIT | count_bits(PFN_TABLE_BLOCK_PAGES);
	table->nr_split++;
	return true;
}
EXPORT_SYMBOL_GPL(pfn_table_split);

static void free_words(struct pfn_table *table, struct pfn_table_slot *slot)
{
	if (!pfn_table_slot_split(slot))
		return;
	kfree(slot->words);
	table->nr_split--;
}

/**
 * pfn_table_join() - make a block huge, whatever it was
 * @table: the table, locked exclusively
 * @slot: the block; the words of its pages are gone afterwards
 * @word: its HUGE word
 */
void pfn_table_join(struct pfn_table *table, struct pfn_table_slot *slot,
		    u64 word)
{
	WARN_ON_ONCE(!is_huge_word(word));
	free_words(table, slot);
	slot->key &= ~(PFN_TABLE_KEY_SPLIT | PFN_TABLE_KEY_COUNT);
	slot->word = word;
}
EXPORT_SYMBOL_GPL(pfn_table_join);

/**
 * pfn_table_count() - book how many words of a split block changed from or to 0
 * @slot: the block, locked exclusively
 * @more: words that are not 0 any more, minus those that have become 0
 *
 * The caller erases a block that has none left.
 */
void pfn_table_count(struct pfn_table_slot *slot, int more)
{
	int count = pfn_table_slot_pages(slot) + more;

	if (WARN_ON_ONCE(!pfn_table_slot_split(slot) || count < 0 ||
			 count > (int)PFN_TABLE_BLOCK_PAGES))
		return;
	slot->key = (slot->key & ~PFN_TABLE_KEY_COUNT) | count_bits(count);
}
EXPORT_SYMBOL_GPL(pfn_table_count);

/**
 * pfn_table_erase() - remove a block and all its words
 * @table: the table, locked exclusively
 * @slot: the block; the pointer may be another block's afterwards
 */
void pfn_table_erase(struct pfn_table *table, struct pfn_table_slot *slot)
{
	unsigned long mask = BIT(table->order) - 1;
	unsigned long gap = slot - table->slots;
	unsigned long at = gap, home;

	free_words(table, slot);
	WRITE_ONCE(table->nr, table->nr - 1);
	for (;;) {
		at = next_slot(table, at);
		slot = &table->slots[at];
		if (!slot->key)
			break;
		home = pfn_table_hash(pfn_table_slot_block(slot), table->order);
		if (((at - home) & mask) < ((at - gap) & mask))
			continue;
		table->slots[gap] = *slot;
		gap = at;
	}
	table->slots[gap].key = 0;
}
EXPORT_SYMBOL_GPL(pfn_table_erase);

/**
 * pfn_table_trim() - give back slots that erasures have left empty
 * @table: the table, locked exclusively
 *
 * Does its best: it may stay as it is for lack of memory.
 *
 * Context: may sleep, but does not reclaim.
 */
void pfn_table_trim(struct pfn_table *table)
{
	struct pfn_table_slot *slots = NULL;
	unsigned int order = 0;

	if (!table->slots || table->nr >= BIT(table->order) / 4)
		return;
	if (table->nr) {
		order = MIN_ORDER;
		while (table->nr >= BIT(order) / 2)
			order++;
		/* Inside reclaim: not from its reserves. */
		slots = alloc_slots(order, GFP_NOWAIT | __GFP_NOMEMALLOC |
						   __GFP_NORETRY);
		if (!slots)
			return;
	}
	kvfree(replace_slots(table, slots, order));
}
EXPORT_SYMBOL_GPL(pfn_table_trim);

/**
 * pfn_table_destroy() - remove all blocks
 * @table: the table, which nobody else uses; empty afterwards
 *
 * Context: may sleep.
 */
void pfn_table_destroy(struct pfn_table *table)
{
	struct pfn_table_slot *slot;

	for (slot = table->slots;
	     slot && slot < table->slots + BIT(table->order); slot++)
		if (slot->key)
			free_words(table, slot);
	kvfree(table->slots);
	*table = (struct pfn_table){};
}
EXPORT_SYMBOL_GPL(pfn_table_destroy);

/**
 * pfn_table_bytes() - what a table has allocated
 * @table: the table, locked at least shared
 *
 * Return: bytes.
 */
size_t pfn_table_bytes(const struct pfn_table *table)
{
	size_t slots = table->slots ? BIT(table->order) : 0;

	return slots * sizeof(struct pfn_table_slot) +
	       table->nr_split * PFN_TABLE_BLOCK_PAGES * sizeof(u64);
}
EXPORT_SYMBOL_GPL(pfn_table_bytes);

/**
 * pfn_table_iter_init() - begin a walk over the blocks of a range
 * @iter: the walk
 * @table: the table, locked until the end of the walk
 * @first: number of the first block
 * @last: number of the last one, below 2^52
 */
void pfn_table_iter_init(struct pfn_table_iter *iter, struct pfn_table *table,
			 u64 first, u64 last)
{
	iter->table = table;
	iter->first = first;
	iter->last = last;
	iter->ordered = !table->slots || last - first < BIT(table->order);
	iter->at = iter->ordered ? first : 0;
}
EXPORT_SYMBOL_GPL(pfn_table_iter_init);

/**
 * pfn_table_next() - the next block of a walk
 * @iter: the walk
 *
 * Return: its slot, NULL at the end. In a walk that is not ordered a block may come
 * twice if the walk erases.
 */
struct pfn_table_slot *pfn_table_next(struct pfn_table_iter *iter)
{
	struct pfn_table *table = iter->table;
	struct pfn_table_slot *slot;
	u64 block;

	if (!table->slots)
		return NULL;
	while (iter->ordered && iter->at <= iter->last) {
		slot = pfn_table_find(table, iter->at++);
		if (slot)
			return slot;
	}
	while (!iter->ordered && iter->at < BIT(table->order)) {
		slot = &table->slots[iter->at++];
		block = pfn_table_slot_block(slot);
		if (slot->key && block >= iter->first && block <= iter->last)
			return slot;
	}
	return NULL;
}
EXPORT_SYMBOL_GPL(pfn_table_next);

/**
 * pfn_table_iter_erase() - remove the block that a walk gave last
 * @iter: the walk
 * @slot: the block
 */
void pfn_table_iter_erase(struct pfn_table_iter *iter,
			  struct pfn_table_slot *slot)
{
	pfn_table_erase(iter->table, slot);
	/* Another block may have moved into the slot. */
	if (!iter->ordered)
		iter->at--;
}
EXPORT_SYMBOL_GPL(pfn_table_iter_erase);
