/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Copyright (c) 2026 The Twostep authors
 *
 * A range of a process' address space mirrored into a table of tagged PFNs, so that a
 * device (or a driver that plays one) can use the pages without pinning them.
 *
 *	fault        finds the pages, publishes their words, links them for the device
 *	data path    looks words up, or fills the device's own entries from runs of them
 *	invalidate   the kernel takes pages away: the device forgets them, they are
 *		     unlinked with one flush, marked dirty if written, and their words go
 *
 * A page walk never writes into the table. A fault walks into private memory of one block
 * without the lock, takes the lock, asks mmu_interval_read_retry(), and only then
 * publishes. So a word in the table is true: the process has that page there, until an
 * invalidation has taken the lock.
 *
 * Life of a word. MAPPED means that the device may use the page: that ->link() has linked
 * it, or that it is of a kind that is reached without an IOVA. Mirrors without ->link() have
 * no MAPPED words.
 *
 *	state     word             event                          becomes   dirty
 *	--------  ---------------  -----------------------------  --------  ----------------
 *	absent    0                published                      present   none
 *	present   READ (WRITE)     linked                         mapped
 *	                           published, same page           present   kept; rights grow
 *	                           published, another page        present   lost
 *	                           invalidated                    absent    page, if DIRTY
 *	mapped    and MAPPED       published, same page, rights   mapped    kept
 *	                           published, same page, more     mapped    DIRTY, if WRITE
 *	                             rights: unlinked, linked
 *	                           published, another page:       mapped    lost
 *	                             unlinked, linked
 *	                           unlinked with a neighbour      present   DIRTY, if WRITE
 *	                           invalidated                    absent    page, if DIRTY or
 *	                                                                    WRITE
 *	present,  and DIRTY        written by software            same      DIRTY
 *	 mapped
 *
 *	PFN_TAG_USER bits begin as 0 with a page in a word, stay while it stays, whatever is
 *	linked, unlinked or published again, and end with it: by invalidation (unmap,
 *	migration, mremap, write protection, ...) and by another page in its place. There is no
 *	way from one page to another that keeps them.
 *
 * Life of a block
 *
 *	none      published, one huge page over all of it         HUGE
 *	          published, else                                 split
 *	HUGE      tagged with user bits                           split, links stay
 *	          invalidated, any part                           none
 *	split     published, one huge page over all of it, some   HUGE, linked anew
 *	            of it absent or not linked, no user bits
 *	          its last page invalidated                       none
 *
 * What one entry of the I/O page table maps cannot be cut. An entry maps a page, or a whole
 * block of 512 contiguous pages with equal rights (HUGE or not); with
 * &hmm_mirror.whole_runs it may map any contiguous pages with equal rights inside a block.
 * Taking out a page takes its entry out; the other pages stay present, not mapped, in a
 * split block, and go as well in a HUGE one.
 *
 * Invariants
 *  - Device first: ->zap() returned before ->unlink() is called, that returned before a page
 *    is marked dirty or its word changes, all before the lock is dropped.
 *  - A page in the table outlives the lock: pfn_to_page() of a word is good while it is held.
 *  - What a device may have written is marked dirty before the invalidation returns, and
 *    nothing else: words with MAPPED and WRITE, and words with DIRTY. Hence with ->link() a
 *    fault grants what was asked for; without, it grants what the process may do, and the
 *    driver books writes with hmm_mirror_written().
 *
 * Locking: &hmm_mirror.lock. Shared: the data path, which so excludes invalidation.
 * Exclusive: publishing and invalidating, and all callbacks. It is taken inside the
 * kernel's reclaim: whoever holds it must not allocate with a gfp that may reclaim,
 * take mmap_lock, or wait for one who does. Order: mmap_lock, page and reverse-map locks,
 * then ours.
 */
#ifndef _LINUX_HMM_MIRROR_H
#define _LINUX_HMM_MIRROR_H

#include <linux/atomic.h>
#include <linux/lockdep.h>
#include <linux/mmu_notifier.h>
#include <linux/pfn-table.h>
#include <linux/rwsem.h>

struct hmm_mirror;
struct hmm_mirror_iter;
struct page;

/**
 * struct hmm_mirror_ops - the device behind a mirror
 * @link: make pages reachable. @words are those of @nr pages from @addr on, all in one
 *	block; holes, words already MAPPED and kinds without an IOVA are to be passed over
 *	(pfn_tag_linkable()), the others get MAPPED. Or @nr is 1 and the word is HUGE: it
 *	stands for all 512 pages. After a failure words [0, @done) are as after success and
 *	the others not linked: dma_iova_link_pfns() does just that. If a failure takes MAPPED
 *	back from words that had it, @link itself has zapped them, and set DIRTY where WRITE
 *	is. -ENOMEM is tried again. Must not sleep for memory: use @gfp. After success the
 *	mirror itself marks the kinds without an IOVA. NULL: a software device, nothing is ever
 *	MAPPED
 * @unlink: take runs of MAPPED pages from the device's reach, all with one flush; the
 *	mirror takes MAPPED back afterwards. Cannot fail. NULL if there is nothing to undo
 * @zap: make the device forget runs of MAPPED pages, and wait until it does not use them
 *	any more. May be NULL
 * @kind: how the device reaches a page of a PCI peer's memory: an &enum pfn_tag_kind, or
 *	-errno if it does not. NULL: it reaches none, and faults on such pages fail
 * @may_sleep: @zap or @unlink may; invalidations that must not sleep are then refused if
 *	there is something to take out
 *
 * All are called with &hmm_mirror.lock held exclusively. The iterator of @unlink and @zap
 * is ready for hmm_mirror_next_run(); runs are as long as neighbours are MAPPED,
 * whatever their PFNs and rights, and never reach out of the mirror's range.
 */
struct hmm_mirror_ops {
	int (*link)(struct hmm_mirror *mirror, unsigned long addr, u64 *words,
		    size_t nr, size_t *done, gfp_t gfp);
	void (*unlink)(struct hmm_mirror *mirror, struct hmm_mirror_iter *runs);
	void (*zap)(struct hmm_mirror *mirror, struct hmm_mirror_iter *runs);
	int (*kind)(struct hmm_mirror *mirror, struct page *page);
	bool may_sleep;
};

/**
 * struct hmm_mirror_stats - what happened, in events and pages
 * @faults: calls in mode %HMM_MIRROR_FAULT
 * @faults_handled: of these, those that got all they asked for
 * @fault_pages: pages that were usable when such a call returned
 * @prefetches: calls in the other modes
 * @prefetch_pages: pages that were usable when such a call returned
 * @invalidations: notifications for a part of the range
 * @invalidations_handled: of these, those that took something out
 * @invalidated_pages: pages taken out by them
 * @linked_pages: pages that got MAPPED
 * @unlinked_pages: pages that lost it
 * @retries: walks thrown away because an invalidation came between, or another fault
 *	that used up the room
 */
struct hmm_mirror_stats {
	atomic64_t faults;
	atomic64_t faults_handled;
	atomic64_t fault_pages;
	atomic64_t prefetches;
	atomic64_t prefetch_pages;
	atomic64_t invalidations;
	atomic64_t invalidations_handled;
	atomic64_t invalidated_pages;
	atomic64_t linked_pages;
	atomic64_t unlinked_pages;
	atomic64_t retries;
};

/**
 * struct hmm_mirror - the mirror of a range
 * @notifier: the kernel's way to take pages back
 * @lock: see the model above
 * @table: the words; page index 0 is the page at @base
 * @base: @start rounded down to a block
 * @start: first address, on a page border
 * @end: address behind the last page
 * @ops: the device; set before hmm_mirror_init()
 * @access: PFN_TAG_READ, and PFN_TAG_WRITE if the device may have it at all; set before
 *	hmm_mirror_init()
 * @dev_private_owner: &dev_pagemap.owner of device-private memory that the device can map
 *	itself, such pages are published with %PFN_KIND_DEVICE_PRIVATE; all others are
 *	brought home by the fault. NULL: none; set before hmm_mirror_init()
 * @whole_runs: an entry may map any contiguous pages that one ->link() got; set before
 *	hmm_mirror_init()
 * @stats: counters
 *
 * Embed it, all zero but for what is to be set.
 */
struct hmm_mirror {
	struct mmu_interval_notifier notifier;
	struct rw_semaphore lock;
	struct pfn_table table;
	unsigned long base;
	unsigned long start;
	unsigned long end;
	const struct hmm_mirror_ops *ops;
	u64 access;
	void *dev_private_owner;
	bool whole_runs;
	struct hmm_mirror_stats stats;
};

/**
 * enum hmm_mirror_mode - how hard to try
 * @HMM_MIRROR_FAULT: bring every page in with the access asked for, stop at the first that
 *	cannot be had
 * @HMM_MIRROR_PREFETCH: the same, but pass over what is not there or not allowed; pages that
 *	may only be read come in for reading
 * @HMM_MIRROR_SNAPSHOT: bring nothing in, publish what the process has at hand with the
 *	rights that it has, as far as the access asked for goes
 */
enum hmm_mirror_mode {
	HMM_MIRROR_FAULT,
	HMM_MIRROR_PREFETCH,
	HMM_MIRROR_SNAPSHOT,
};

/**
 * struct hmm_mirror_fault - a request for pages
 * @start: first byte wanted
 * @end: behind the last one; both are rounded out to pages
 * @access: what the device wants to do: PFN_TAG_READ, maybe PFN_TAG_WRITE
 * @mode: how hard to try
 * @present: out: how many pages of the range are usable: published and, where there is
 *	->link(), MAPPED. In mode %HMM_MIRROR_FAULT they have @access and are the first ones
 *	of the range, none missing between them
 * @granted: out: the rights that all of these have, 0 if there are none
 *
 * Pages around the range may come in as well: those of a huge page that has a part in it.
 */
struct hmm_mirror_fault {
	unsigned long start;
	unsigned long end;
	u64 access;
	enum hmm_mirror_mode mode;
	unsigned long present;
	u64 granted;
};

/**
 * struct hmm_mirror_run - neighbouring pages
 * @addr: address of the first
 * @nr: how many pages, more than 0
 * @word: word of the first (PFN_TAG_HUGE as in the table)
 */
struct hmm_mirror_run {
	unsigned long addr;
	unsigned long nr;
	u64 word;
};

/**
 * struct hmm_mirror_iter - the runs of a range
 * @mirror: the mirror, its lock held from init until the last use
 * @start: first address
 * @end: behind the last
 * @want: bits that all words of a run have; PFN_TAG_READ for all pages present
 * @same: bits in which the words of a run agree. With PFN_TAG_PFN in it, PFNs
 *	are contiguous
 *
 * Set up with hmm_mirror_runs(). Runs cross blocks and come in ascending order, unless the
 * range has more blocks than the table has slots: then they end at blocks and come in any
 * order.
 */
struct hmm_mirror_iter {
	struct hmm_mirror *mirror;
	unsigned long start;
	unsigned long end;
	u64 want;
	u64 same;
	/* private: */
	struct pfn_table_iter blocks;
	struct pfn_table_slot *slot;
	unsigned int i;
};

int hmm_mirror_init(struct hmm_mirror *mirror, struct mm_struct *mm,
		    unsigned long start, size_t size,
		    const struct mmu_interval_notifier_ops *notifier_ops);
void hmm_mirror_destroy(struct hmm_mirror *mirror);

int hmm_mirror_fault(struct hmm_mirror *mirror, struct hmm_mirror_fault *fault);
int hmm_mirror_fault_and_lock(struct hmm_mirror *mirror,
			      struct hmm_mirror_fault *fault);

bool hmm_mirror_invalidate(struct hmm_mirror *mirror,
			   const struct mmu_notifier_range *range,
			   unsigned long cur_seq);
unsigned long hmm_mirror_clear(struct hmm_mirror *mirror, unsigned long start,
			       unsigned long end);

long hmm_mirror_tag(struct hmm_mirror *mirror, unsigned long start,
		    unsigned long end, u64 mask, u64 user);
void hmm_mirror_written(struct hmm_mirror *mirror, unsigned long addr,
			size_t len);

void hmm_mirror_runs(struct hmm_mirror_iter *iter, struct hmm_mirror *mirror,
		     unsigned long start, unsigned long end, u64 want,
		     u64 same);
bool hmm_mirror_next_run(struct hmm_mirror_iter *iter,
			 struct hmm_mirror_run *run);

/* The page index of an address, as the table counts. */
static inline u64 hmm_mirror_index(const struct hmm_mirror *mirror,
				   unsigned long addr)
{
	return (addr - mirror->base) >> PAGE_SHIFT;
}

/**
 * hmm_mirror_word() - the word of an address: for data paths
 * @mirror: the mirror, locked at least shared
 * @addr: an address in its range
 *
 * Never sleeps, never allocates: at most two dependent loads.
 *
 * Return: the word, 0 if the page is not there; of a page in a HUGE block, the page's own
 * PFN.
 */
static inline u64 hmm_mirror_word(const struct hmm_mirror *mirror,
				  unsigned long addr)
{
	return pfn_table_word(&mirror->table, hmm_mirror_index(mirror, addr));
}

/**
 * hmm_mirror_set_mapped() - what ->link() does for a device that needs no IOVA
 * @words: as ->link() got them
 * @nr: how many
 *
 * From here on the device may use the pages, and is zapped before they go.
 */
static inline void hmm_mirror_set_mapped(u64 *words, size_t nr)
{
	size_t i;

	for (i = 0; i < nr; i++)
		if (pfn_tag_linkable(words[i]))
			words[i] |= PFN_TAG_MAPPED;
}

/**
 * hmm_mirror_bytes() - bytes of metadata
 * @mirror: the mirror, locked at least shared
 *
 * Return: bytes allocated for what was touched; the mirror itself is not in it.
 */
static inline size_t hmm_mirror_bytes(const struct hmm_mirror *mirror)
{
	return pfn_table_bytes(&mirror->table);
}

#endif /* _LINUX_HMM_MIRROR_H */
