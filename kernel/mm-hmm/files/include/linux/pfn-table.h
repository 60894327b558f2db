/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Copyright (c) 2026 The Twostep authors
 *
 * A sparse table of tagged PFNs (linux/pfn-tag.h): one word for each page of a range of
 * any length, memory only for what was touched.
 *
 * The key is a page index, counted from an address that the owner chose and that lies on
 * a block's border. 512 pages make a block; a block exists once a page in it does:
 *
 *	slots[]                          block of a slot
 *	+-----------------+
 *	| 7    | SPLIT  o-|------------> 512 words, one per page, 0 for a hole
 *	+-----------------+
 *	|      empty      |
 *	+-----------------+
 *	| 19   |   word   |              HUGE: this word is the block, all 512 pages
 *	+-----------------+
 *
 * The slots are a hash table with open addressing: a page costs one load for its slot and,
 * in a split block, one for its word. A table without blocks has no slots.
 *
 * Invariants
 *  - A word is 0 or has PFN_TAG_READ. A block without a page does not exist.
 *  - A HUGE word's PFN is that of the block's first page and a multiple of 512. It has no
 *    PFN_TAG_USER bits: what belongs to single pages needs words of single pages.
 *  - A word in a split block is never HUGE.
 *  - At most 3/4 of the slots are taken, so every search ends.
 *  - &pfn_table_slot.key counts the words of a split block that are not 0.
 *
 * Memory: 16 bytes a slot. At least a quarter of the slots is taken, if pfn_table_trim()
 * follows erasures: at most 64 bytes for a huge block, and 4096 more for a split one.
 * What a new block can need is allocated before the owner's lock is taken, and is
 * brought by &struct pfn_table_reserve.
 *
 * Locking: the owner's lock. Shared: finding, reading words, pfn_table_set_dirty().
 * Exclusive: all else. Only pfn_table_prepare() and pfn_table_release() are called
 * without. A slot pointer is good until the next insertion or erasure.
 *
 * Hazard: erasing moves slots. While a &struct pfn_table_iter is at work, only
 * pfn_table_iter_erase() may erase, and only the slot at hand.
 */
#ifndef _LINUX_PFN_TABLE_H
#define _LINUX_PFN_TABLE_H

#include <linux/bits.h>
#include <linux/compiler.h>
#include <linux/gfp_types.h>
#include <linux/pfn-tag.h>
#include <linux/types.h>

#define PFN_TABLE_BLOCK_ORDER 9
#define PFN_TABLE_BLOCK_PAGES BIT(PFN_TABLE_BLOCK_ORDER)
/* Bytes of address space that a block stands for; the base of a table is a multiple. */
#define PFN_TABLE_BLOCK_SIZE (PAGE_SIZE << PFN_TABLE_BLOCK_ORDER)

/* The fields of a slot's key. A key of 0 is an empty slot. */
#define PFN_TABLE_KEY_TAKEN BIT_ULL(0)
#define PFN_TABLE_KEY_SPLIT BIT_ULL(1)
#define PFN_TABLE_KEY_COUNT GENMASK_ULL(11, 2)
#define PFN_TABLE_KEY_COUNT_SHIFT 2
#define PFN_TABLE_KEY_BLOCK GENMASK_ULL(63, 12)
#define PFN_TABLE_KEY_BLOCK_SHIFT 12

/**
 * struct pfn_table_slot - a block of a table
 * @key: PFN_TABLE_KEY_*: which block, whether it is split, how many words are not 0
 * @word: the block's HUGE word, if it is not split
 * @words: its words, if it is split
 */
struct pfn_table_slot {
	u64 key;
	union {
		u64 word;
		u64 *words;
	};
};

/**
 * struct pfn_table - the table; all zero is an empty one
 * @slots: hash table, NULL without blocks
 * @order: log2 of the number of slots, 0 without
 * @nr: blocks
 * @nr_split: of these, split ones
 */
struct pfn_table {
	struct pfn_table_slot *slots;
	unsigned int order;
	unsigned long nr;
	unsigned long nr_split;
};

/**
 * struct pfn_table_reserve - memory for one more block; all zero is an empty one
 * @words: 512 words, not cleared. Whoever hands them to the table filled them
 * @slots: a larger hash table, empty; or the smaller one that it has replaced
 * @order: log2 of the larger one's size, 0 for a replaced one
 */
struct pfn_table_reserve {
	u64 *words;
	struct pfn_table_slot *slots;
	unsigned int order;
};

/**
 * struct pfn_table_iter - the blocks of a range that exist
 * @table: the table
 * @first: number of the first block of the range
 * @last: number of the last one
 * @ordered: blocks come in ascending order: unless the range has more blocks than the table
 *	has slots
 */
struct pfn_table_iter {
	struct pfn_table *table;
	u64 first;
	u64 last;
	bool ordered;
	/* private: the block or slot to look at next */
	u64 at;
};

static inline u64 pfn_table_slot_block(const struct pfn_table_slot *slot)
{
	return slot->key >> PFN_TABLE_KEY_BLOCK_SHIFT;
}

static inline bool pfn_table_slot_split(const struct pfn_table_slot *slot)
{
	return slot->key & PFN_TABLE_KEY_SPLIT;
}

/* How many pages of a block are there. */
static inline unsigned int
pfn_table_slot_pages(const struct pfn_table_slot *slot)
{
	if (!pfn_table_slot_split(slot))
		return PFN_TABLE_BLOCK_PAGES;
	return (slot->key & PFN_TABLE_KEY_COUNT) >> PFN_TABLE_KEY_COUNT_SHIFT;
}

/* Which slot a block would like to have. */
static inline unsigned long pfn_table_hash(u64 block, unsigned int order)
{
	return (block * 0x9e3779b97f4a7c15ULL) >> (64 - order);
}

/**
 * pfn_table_find() - the slot of a block
 * @table: the table, locked at least shared
 * @block: page index / 512
 *
 * Return: the slot, NULL if no page of the block is there.
 */
static inline struct pfn_table_slot *
pfn_table_find(const struct pfn_table *table, u64 block)
{
	const u64 want = block << PFN_TABLE_KEY_BLOCK_SHIFT |
			 PFN_TABLE_KEY_TAKEN;
	const u64 mask = PFN_TABLE_KEY_BLOCK | PFN_TABLE_KEY_TAKEN;
	struct pfn_table_slot *slot;
	unsigned long at;

	if (!table->slots)
		return NULL;
	at = pfn_table_hash(block, table->order);
	for (;;) {
		slot = &table->slots[at];
		if (!((slot->key ^ want) & mask))
			return slot;
		if (!slot->key)
			return NULL;
		at = (at + 1) & (BIT(table->order) - 1);
	}
}

/**
 * pfn_table_slot_word() - the word of a page of a block
 * @slot: the block, locked at least shared
 * @i: which page of it, below 512
 *
 * Return: as pfn_table_word().
 */
static inline u64 pfn_table_slot_word(const struct pfn_table_slot *slot,
				      unsigned int i)
{
	if (pfn_table_slot_split(slot))
		return READ_ONCE(slot->words[i]);
	return READ_ONCE(slot->word) + i;
}

/**
 * pfn_table_word() - the word of a page
 * @table: the table, locked at least shared
 * @index: page index
 *
 * Return: the word, 0 for a hole. In a huge block it has the page's own PFN and
 * PFN_TAG_HUGE.
 */
static inline u64 pfn_table_word(const struct pfn_table *table, u64 index)
{
	const struct pfn_table_slot *slot;

	slot = pfn_table_find(table, index >> PFN_TABLE_BLOCK_ORDER);
	if (!slot)
		return 0;
	return pfn_table_slot_word(slot, index & (PFN_TABLE_BLOCK_PAGES - 1));
}

/**
 * pfn_table_set_dirty() - book that a page was written
 * @slot: the block, locked at least shared
 * @i: which page of it, present
 *
 * Of a huge block all pages become dirty. Nothing else of a word changes while the lock is
 * shared, so that two who do this at once do no harm.
 */
static inline void pfn_table_set_dirty(struct pfn_table_slot *slot,
				       unsigned int i)
{
	u64 *word = pfn_table_slot_split(slot) ? &slot->words[i] : &slot->word;
	u64 value = READ_ONCE(*word);

	if (!(value & PFN_TAG_DIRTY))
		WRITE_ONCE(*word, value | PFN_TAG_DIRTY);
}

int pfn_table_prepare(const struct pfn_table *table,
		      struct pfn_table_reserve *reserve, gfp_t gfp);
void pfn_table_release(struct pfn_table_reserve *reserve);

struct pfn_table_slot *pfn_table_insert(struct pfn_table *table, u64 block,
					u64 word,
					struct pfn_table_reserve *reserve);
struct pfn_table_slot *
pfn_table_insert_split(struct pfn_table *table, u64 block, unsigned int count,
		       struct pfn_table_reserve *reserve);
bool pfn_table_split(struct pfn_table *table, struct pfn_table_slot *slot,
		     struct pfn_table_reserve *reserve);
void pfn_table_join(struct pfn_table *table, struct pfn_table_slot *slot,
		    u64 word);
void pfn_table_count(struct pfn_table_slot *slot, int more);
void pfn_table_erase(struct pfn_table *table, struct pfn_table_slot *slot);
void pfn_table_trim(struct pfn_table *table);
void pfn_table_destroy(struct pfn_table *table);
size_t pfn_table_bytes(const struct pfn_table *table);

void pfn_table_iter_init(struct pfn_table_iter *iter, struct pfn_table *table,
			 u64 first, u64 last);
struct pfn_table_slot *pfn_table_next(struct pfn_table_iter *iter);
void pfn_table_iter_erase(struct pfn_table_iter *iter,
			  struct pfn_table_slot *slot);

#endif /* _LINUX_PFN_TABLE_H */
