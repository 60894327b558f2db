/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Copyright (c) 2026 The Twostep authors
 *
 * What the parts of the HMM mirror share. For drivers there is linux/hmm-mirror.h.
 */
#ifndef _MM_HMM_MIRROR_INTERNAL_H
#define _MM_HMM_MIRROR_INTERNAL_H

#include <linux/hmm-mirror.h>
#include <linux/minmax.h>
#include <linux/mm.h>
#include <linux/types.h>

/**
 * struct hmm_mirror_part - the pages of a block that a fault is about, and what it found
 * @block: number of the block
 * @first: first page in it
 * @behind: behind the last one
 * @grant: rights to publish at most
 * @found: what the walk found: the words of hmm_range_fault(), one for each page of the
 *	block; only [@first, @behind) were written by the walk, and only the first if @huge
 * @huge: one huge page maps the whole block
 * @ordinary: 1 + the last section of memory that was seen to have no device's pages
 * @special: out: some page is of a kind that has no IOVA
 * @refused: out: why a page that was found cannot be used, or 0
 */
struct hmm_mirror_part {
	u64 block;
	unsigned int first;
	unsigned int behind;
	u64 grant;
	u64 *found;
	unsigned long ordinary;
	bool huge;
	bool special;
	int refused;
};

/**
 * struct hmm_mirror_span - addresses, on page borders
 * @start: first
 * @end: behind the last
 */
struct hmm_mirror_span {
	unsigned long start;
	unsigned long end;
};

/* Where a block begins; of the first block this may be before the mirror. */
static inline unsigned long
hmm_mirror_block_addr(const struct hmm_mirror *mirror, u64 block)
{
	return mirror->base + block * PFN_TABLE_BLOCK_SIZE;
}

static inline struct pfn_table_slot *
hmm_mirror_slot_at(const struct hmm_mirror *mirror, unsigned long addr)
{
	return pfn_table_find(&mirror->table, hmm_mirror_index(mirror, addr) >>
						      PFN_TABLE_BLOCK_ORDER);
}

/* Begin a walk over the blocks of the table that a span touches; it is not empty. */
static inline void hmm_mirror_blocks(struct pfn_table_iter *iter,
				     struct hmm_mirror *mirror,
				     const struct hmm_mirror_span *span)
{
	pfn_table_iter_init(iter, &mirror->table,
			    hmm_mirror_index(mirror, span->start) >>
				    PFN_TABLE_BLOCK_ORDER,
			    hmm_mirror_index(mirror, span->end - 1) >>
				    PFN_TABLE_BLOCK_ORDER);
}

/* Leave out what is not mirrored. Returns false if nothing is left. */
static inline bool hmm_mirror_clamp(const struct hmm_mirror *mirror,
				    struct hmm_mirror_span *span)
{
	span->start = max(span->start & PAGE_MASK, mirror->start);
	span->end = span->end < mirror->end ? PAGE_ALIGN(span->end) :
					      mirror->end;
	return span->start < span->end;
}

/* The pages of a span that lie in a block: [first, behind). */
static inline void hmm_mirror_clip(const struct hmm_mirror *mirror,
				   const struct hmm_mirror_span *span,
				   u64 block, unsigned int *first,
				   unsigned int *behind)
{
	unsigned long addr = hmm_mirror_block_addr(mirror, block);
	unsigned long start = max(span->start, addr);
	/* Counted from the block, as the address behind the last one may be too large. */
	unsigned long bytes = min(span->end - addr, PFN_TABLE_BLOCK_SIZE);

	*first = (start - addr) >> PAGE_SHIFT;
	*behind = bytes >> PAGE_SHIFT;
}

/* hmm-mirror-runs.c */
bool hmm_mirror_any_run(struct hmm_mirror_iter *iter);

/* hmm-mirror-remove.c */
bool hmm_mirror_any_mapped(struct hmm_mirror *mirror,
			   const struct hmm_mirror_span *span);
void hmm_mirror_unlink(struct hmm_mirror *mirror, unsigned long start,
		       unsigned long end);
unsigned long hmm_mirror_remove(struct hmm_mirror *mirror,
				struct hmm_mirror_span span, bool zap);

/* hmm-mirror-publish.c */
int hmm_mirror_publish(struct hmm_mirror *mirror, struct hmm_mirror_part *part,
		       struct pfn_table_reserve *reserve);
int hmm_mirror_link(struct hmm_mirror *mirror,
		    const struct hmm_mirror_part *part);

/**
 * enum hmm_mirror_seam - the steps that can be made to fail (debugfs fail_hmm_mirror)
 * @HMM_MIRROR_SEAM_TABLE: no memory for a block or for slots
 * @HMM_MIRROR_SEAM_WALK: the walk of the process' page table collides
 * @HMM_MIRROR_SEAM_RETRY: an invalidation came between walk and lock
 * @HMM_MIRROR_SEAM_ROOM: others have used up what was reserved
 * @HMM_MIRROR_SEAM_LINK: no memory to link
 */
enum hmm_mirror_seam {
	HMM_MIRROR_SEAM_TABLE,
	HMM_MIRROR_SEAM_WALK,
	HMM_MIRROR_SEAM_RETRY,
	HMM_MIRROR_SEAM_ROOM,
	HMM_MIRROR_SEAM_LINK,
};

#ifdef CONFIG_FAULT_INJECTION
bool hmm_mirror_fails(enum hmm_mirror_seam seam);
#else
static inline bool hmm_mirror_fails(enum hmm_mirror_seam seam)
{
	return false;
}
#endif

/**
 * struct hmm_mirror_plant - what the tests plant in a fault
 * @mirror: in the faults of this mirror only
 * @walked: called between the walk and the lock, with what it found, if not NULL
 * @unchecked: publish without asking for an invalidation since the walk began: wrong, and
 *	the tests must notice
 */
struct hmm_mirror_plant {
	struct hmm_mirror *mirror;
	void (*walked)(struct hmm_mirror *mirror,
		       const struct hmm_mirror_part *part);
	bool unchecked;
};

#ifdef CONFIG_HMM_MIRROR_KUNIT_TEST
extern struct hmm_mirror_plant hmm_mirror_plant;

static inline void hmm_mirror_walked(struct hmm_mirror *mirror,
				     const struct hmm_mirror_part *part)
{
	if (hmm_mirror_plant.mirror == mirror && hmm_mirror_plant.walked)
		hmm_mirror_plant.walked(mirror, part);
}

static inline bool hmm_mirror_unchecked(const struct hmm_mirror *mirror)
{
	return hmm_mirror_plant.mirror == mirror && hmm_mirror_plant.unchecked;
}
#else
static inline void hmm_mirror_walked(struct hmm_mirror *mirror,
				     const struct hmm_mirror_part *part)
{
}

static inline bool hmm_mirror_unchecked(const struct hmm_mirror *mirror)
{
	return false;
}
#endif

#endif /* _MM_HMM_MIRROR_INTERNAL_H */
