// SPDX-License-Identifier: GPL-2.0
/*
 * Copyright (c) 2026 The Twostep authors
 *
 * The HMM mirror (linux/hmm-mirror.h): how it begins and ends, how the kernel takes pages
 * back, and what its owner may change in words: that a page was written, user bits.
 */

#include <linux/export.h>
#include <linux/hmm-mirror.h>
#include <linux/mm.h>
#include <linux/overflow.h>
#include <linux/sched.h>

#include "hmm-mirror-internal.h"

/**
 * hmm_mirror_clear() - take pages out
 * @mirror: the mirror, locked exclusively
 * @start: first address; what is outside the mirror's range is left out
 * @end: behind the last
 *
 * On return the device cannot reach the pages, those that it may have written are marked
 * dirty, and the table does not have them any more. If a page of a huge block is asked for,
 * all of the block goes.
 *
 * Context: may sleep.
 * Return: pages that went.
 */
unsigned long hmm_mirror_clear(struct hmm_mirror *mirror, unsigned long start,
			       unsigned long end)
{
	struct hmm_mirror_span span = { .start = start, .end = end };
	unsigned long pages;

	lockdep_assert_held_write(&mirror->lock);
	pages = hmm_mirror_remove(mirror, span, true);
	pfn_table_trim(&mirror->table);
	return pages;
}
EXPORT_SYMBOL_GPL(hmm_mirror_clear);

static bool lock_for(struct hmm_mirror *mirror,
		     const struct mmu_notifier_range *range)
{
	struct hmm_mirror_span span = { .start = range->start,
					.end = range->end };

	if (mmu_notifier_range_blockable(range)) {
		down_write(&mirror->lock);
		return true;
	}
	if (!down_write_trylock(&mirror->lock))
		return false;
	if (!mirror->ops->may_sleep || !hmm_mirror_any_mapped(mirror, &span))
		return true;
	up_write(&mirror->lock);
	return false;
}

/**
 * hmm_mirror_invalidate() - &mmu_interval_notifier_ops.invalidate of a mirror
 * @mirror: the mirror, not locked
 * @range: as it was given
 * @cur_seq: as it was given
 *
 * Drivers with an operation of their own call it from there.
 *
 * Return: false if the notification must not sleep and this would have to.
 */
bool hmm_mirror_invalidate(struct hmm_mirror *mirror,
			   const struct mmu_notifier_range *range,
			   unsigned long cur_seq)
{
	struct hmm_mirror_span span = { .start = range->start,
					.end = range->end };
	unsigned long pages;

	if (!lock_for(mirror, range))
		return false;
	mmu_interval_set_seq(&mirror->notifier, cur_seq);
	pages = hmm_mirror_remove(mirror, span, true);
	if (mmu_notifier_range_blockable(range))
		pfn_table_trim(&mirror->table);
	up_write(&mirror->lock);

	atomic64_inc(&mirror->stats.invalidations);
	if (pages)
		atomic64_inc(&mirror->stats.invalidations_handled);
	atomic64_add(pages, &mirror->stats.invalidated_pages);
	return true;
}
EXPORT_SYMBOL_GPL(hmm_mirror_invalidate);

static bool invalidate(struct mmu_interval_notifier *notifier,
		       const struct mmu_notifier_range *range,
		       unsigned long cur_seq)
{
	struct hmm_mirror *mirror =
		container_of(notifier, struct hmm_mirror, notifier);

	return hmm_mirror_invalidate(mirror, range, cur_seq);
}

static const struct mmu_interval_notifier_ops mirror_notifier_ops = {
	.invalidate = invalidate,
};

/**
 * hmm_mirror_init() - begin to mirror a range
 * @mirror: zero, but for what the caller has to set (see &struct hmm_mirror)
 * @mm: the process' address space; the caller has a reference (mmget()), and not its
 *	mmap_lock
 * @start: first byte
 * @size: bytes; the range is rounded out to pages
 * @notifier_ops: what the kernel calls to take pages back; NULL for hmm_mirror_invalidate()
 *
 * Costs the same for any size. Nothing needs to be mapped in the range.
 *
 * Return: 0; -EINVAL, -EOVERFLOW, -ENOMEM, -EINTR.
 */
int hmm_mirror_init(struct hmm_mirror *mirror, struct mm_struct *mm,
		    unsigned long start, size_t size,
		    const struct mmu_interval_notifier_ops *notifier_ops)
{
	unsigned long end;

	if (!size || !(mirror->access & PFN_TAG_READ))
		return -EINVAL;
	if (check_add_overflow(start, size, &end) || !PAGE_ALIGN(end))
		return -EOVERFLOW;
	mirror->start = start & PAGE_MASK;
	mirror->end = PAGE_ALIGN(end);
	mirror->base = ALIGN_DOWN(start, PFN_TABLE_BLOCK_SIZE);
	init_rwsem(&mirror->lock);
	return mmu_interval_notifier_insert(
		&mirror->notifier, mm, mirror->start,
		mirror->end - mirror->start,
		notifier_ops ?: &mirror_notifier_ops);
}
EXPORT_SYMBOL_GPL(hmm_mirror_init);

/**
 * hmm_mirror_destroy() - end a mirror
 * @mirror: the mirror; nobody faults or looks up any more, and the device has forgotten
 *	all of it: ->zap() is not called
 *
 * Unlinks what is linked and marks dirty what the device may have written. Waits for
 * invalidations to end.
 */
void hmm_mirror_destroy(struct hmm_mirror *mirror)
{
	struct hmm_mirror_span span = { .start = mirror->start,
					.end = mirror->end };

	/* Before the notifier goes: it is what keeps the pages where they are. */
	down_write(&mirror->lock);
	hmm_mirror_remove(mirror, span, false);
	/* Who counts bytes meanwhile has the lock; a late notification finds nothing. */
	pfn_table_destroy(&mirror->table);
	up_write(&mirror->lock);
	mmu_interval_notifier_remove(&mirror->notifier);
}
EXPORT_SYMBOL_GPL(hmm_mirror_destroy);

/**
 * hmm_mirror_written() - book that software wrote pages
 * @mirror: the mirror, locked at least shared
 * @addr: first byte written
 * @len: bytes, more than 0; the pages are all in the table
 *
 * The pages are marked dirty when they are taken out.
 */
void hmm_mirror_written(struct hmm_mirror *mirror, unsigned long addr,
			size_t len)
{
	struct hmm_mirror_span span = { .start = addr, .end = addr + len };
	struct pfn_table_slot *slot;
	unsigned int first, behind;

	lockdep_assert_held(&mirror->lock);
	if (!hmm_mirror_clamp(mirror, &span))
		return;
	while (span.start < span.end) {
		slot = hmm_mirror_slot_at(mirror, span.start);
		if (WARN_ON_ONCE(!slot))
			return;
		hmm_mirror_clip(mirror, &span, pfn_table_slot_block(slot),
				&first, &behind);
		span.start += (behind - first) * PAGE_SIZE;
		if (!pfn_table_slot_split(slot))
			first = behind - 1;
		for (; first < behind; first++)
			pfn_table_set_dirty(slot, first);
	}
}
EXPORT_SYMBOL_GPL(hmm_mirror_written);

/* Returns how many pages were tagged, -EAGAIN without the memory to split the block. */
static long tag_block(struct hmm_mirror *mirror,
		      const struct hmm_mirror_span *span, u64 mask, u64 user,
		      struct pfn_table_reserve *reserve)
{
	struct pfn_table_slot *slot = hmm_mirror_slot_at(mirror, span->start);
	unsigned int first, behind;
	long pages = 0;

	if (!slot)
		return 0;
	hmm_mirror_clip(mirror, span, pfn_table_slot_block(slot), &first,
			&behind);
	/* Huge blocks have no user bits: what would clear some is done. */
	if (!user && !pfn_table_slot_split(slot))
		return behind - first;
	if (!pfn_table_split(&mirror->table, slot, reserve))
		return -EAGAIN;
	for (; first < behind; first++) {
		if (!slot->words[first])
			continue;
		slot->words[first] = (slot->words[first] & ~mask) | user;
		pages++;
	}
	return pages;
}

/**
 * hmm_mirror_tag() - set user bits of pages that are in the table
 * @mirror: the mirror, not locked
 * @start: first address
 * @end: behind the last
 * @mask: PFN_TAG_USER bits to change
 * @user: what they become
 *
 * A huge block is split in the table; what is linked stays linked.
 *
 * Context: may sleep and reclaim.
 * Return: how many pages got them; -EINVAL, or -ENOMEM with some pages maybe done.
 */
long hmm_mirror_tag(struct hmm_mirror *mirror, unsigned long start,
		    unsigned long end, u64 mask, u64 user)
{
	struct hmm_mirror_span part, span = { .start = start, .end = end };
	struct pfn_table_reserve reserve = {};
	long pages = 0, ret = 0;

	if (mask & ~PFN_TAG_USER || user & ~mask)
		return -EINVAL;
	if (!hmm_mirror_clamp(mirror, &span))
		return 0;
	while (span.start < span.end && !ret) {
		part = span;
		part.end = min(span.end - 1,
			       span.start | (PFN_TABLE_BLOCK_SIZE - 1)) +
			   1;
		down_write(&mirror->lock);
		ret = tag_block(mirror, &part, mask, user, &reserve);
		up_write(&mirror->lock);
		if (ret == -EAGAIN) {
			ret = pfn_table_prepare(&mirror->table, &reserve,
						GFP_KERNEL_ACCOUNT);
			continue;
		}
		pages += ret;
		ret = 0;
		span.start = part.end;
		cond_resched();
	}
	pfn_table_release(&reserve);
	return ret ?: pages;
}
EXPORT_SYMBOL_GPL(hmm_mirror_tag);
