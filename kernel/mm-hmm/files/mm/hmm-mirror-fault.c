// SPDX-License-Identifier: GPL-2.0
/*
 * Copyright (c) 2026 The Twostep authors
 *
 * The HMM mirror: fault, prefetch and snapshot (linux/hmm-mirror.h).
 *
 * A request is done in parts, one for each block it touches. Of each part:
 *
 *	prepare   memory for a block, no lock held: it is what the walk writes into
 *	walk      mmap_lock held: hmm_range_fault(). A huge page is seen by its first page
 *	publish   our lock held, and no invalidation since: words, then links
 *
 * Whatever comes between (an invalidation, another fault that used up the room, no memory
 * to link) throws the walk away, and the part is done again: until a second is over and it
 * was tried MIN_TRIES times, for memory MAX_NOMEM times, with the lock dropped so that
 * reclaim can get at the pages of this very mirror.
 */

#include <linux/export.h>
#include <linux/hmm.h>
#include <linux/hmm-mirror.h>
#include <linux/jiffies.h>
#include <linux/memcontrol.h>
#include <linux/mm.h>
#include <linux/oom.h>
#include <linux/pagewalk.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/secretmem.h>

#include "hmm-mirror-internal.h"

#define PAGES PFN_TABLE_BLOCK_PAGES

/* How often walking or linking may fail for lack of memory before a fault does. */
#define MAX_NOMEM 8

/* How much that is not there is passed over without a pause. */
#define MAX_PASS (64UL << 30)

/* How many pages of a mapping, in a part, a prefetch asks for in vain. */
#define MAX_BAD 8

/* How often something is tried at least before time is up. */
#define MIN_TRIES 4

/* Longer parts look at their first page first: it may be a huge one. */
#define LONG_PART 8

/**
 * struct tally - usable pages
 * @pages: how many
 * @granted: rights that all of them have
 * @missing: address of the first page that is not usable, or the end of what was asked
 */
struct tally {
	unsigned long pages;
	u64 granted;
	unsigned long missing;
};

/**
 * struct request - a fault at work
 * @mirror: the mirror
 * @fault: what is wanted
 * @start: @fault's first page
 * @end: behind its last one
 * @part: the part at hand
 * @tally: what became usable; of the part at hand once it is done
 * @reserve: memory; its words are what the walk writes into
 * @deadline: when to give the part up, in jiffies
 * @nomem: how often there was no memory to walk or to link it
 */
struct request {
	struct hmm_mirror *mirror;
	struct hmm_mirror_fault *fault;
	unsigned long start;
	unsigned long end;
	struct hmm_mirror_part part;
	struct tally tally;
	struct pfn_table_reserve reserve;
	unsigned long deadline;
	unsigned int nomem;
};

static unsigned long page_addr(const struct request *request, unsigned int i)
{
	return hmm_mirror_block_addr(request->mirror, request->part.block) +
	       i * PAGE_SIZE;
}

static unsigned long part_start(const struct request *request)
{
	return page_addr(request, request->part.first);
}

static unsigned long part_end(const struct request *request)
{
	return page_addr(request, request->part.behind);
}

static u64 *found_at(const struct request *request, unsigned long addr)
{
	return request->part.found +
	       (hmm_mirror_index(request->mirror, addr) & (PAGES - 1));
}

static void found_nothing(struct request *request, unsigned long start,
			  unsigned long end)
{
	memset(found_at(request, start), 0,
	       ((end - start) >> PAGE_SHIFT) * sizeof(u64));
}

/* Walk over a range of the part. What the walk does not reach is not found. */
static int walk_pages(struct request *request, unsigned long seq,
		      unsigned long start, unsigned long end,
		      unsigned long flags)
{
	struct hmm_mirror *mirror = request->mirror;
	struct hmm_range range = {
		.notifier = &mirror->notifier,
		.notifier_seq = seq,
		.start = start,
		.end = end,
		.hmm_pfns = (unsigned long *)found_at(request, start),
		.default_flags = flags,
		.dev_private_owner = mirror->dev_private_owner,
	};

	int ret;

	static_assert(sizeof(*range.hmm_pfns) == sizeof(u64));
	found_nothing(request, start, end);
	if (hmm_mirror_fails(HMM_MIRROR_SEAM_WALK))
		return -EBUSY;
	ret = hmm_range_fault(&range);
	return ret == -EFAULT && range.no_memory ? -ENOMEM : ret;
}

/* Whether one huge page maps the block of a page, and all of the block is mirrored. */
static bool found_huge(const struct request *request, unsigned long addr)
{
	u64 found = *found_at(request, addr);
	unsigned long block = page_addr(request, 0);

	return found & HMM_PFN_VALID &&
	       hmm_pfn_to_map_order(found) >= PFN_TABLE_BLOCK_ORDER &&
	       block >= request->mirror->start &&
	       request->mirror->end - block >= PFN_TABLE_BLOCK_SIZE;
}

/* The same, but a huge page is known by its first page, and the others are left out. */
static int walk_range(struct request *request, unsigned long seq,
		      unsigned long start, unsigned long end,
		      unsigned long flags)
{
	unsigned long probe = end;
	int ret;

	if (end - start > LONG_PART * PAGE_SIZE)
		probe = start + PAGE_SIZE;
	ret = walk_pages(request, seq, start, probe, flags);
	if (ret) {
		found_nothing(request, probe, end);
		return ret;
	}
	if (found_huge(request, start)) {
		request->part.huge = true;
		return 0;
	}
	return probe < end ? walk_pages(request, seq, probe, end, flags) : 0;
}

static unsigned long flags_for(u64 access)
{
	return access & PFN_TAG_WRITE ? HMM_PFN_REQ_FAULT | HMM_PFN_REQ_WRITE :
					HMM_PFN_REQ_FAULT;
}

/* The first page of a range that was not found. */
static unsigned long first_not_found(const struct request *request,
				     unsigned long start, unsigned long end)
{
	while (start < end && *found_at(request, start) & HMM_PFN_VALID)
		start += PAGE_SIZE;
	return start;
}

static bool may_prefetch(const struct vm_area_struct *vma)
{
	return vma->vm_flags & VM_READ &&
	       !(vma->vm_flags & (VM_IO | VM_PFNMAP));
}

/*
 * Fault in pages of one mapping, as many as can be had and are allowed. A walk that fails has
 * not stored all that was before the page at fault: page by page to that one, then on
 * behind it, and after some of them with what is there.
 */
static int prefetch_range(struct request *request, unsigned long seq,
			  struct vm_area_struct *vma, unsigned long start,
			  unsigned long end)
{
	u64 access = request->fault->access;
	unsigned int bad = 0;
	unsigned long flags;
	int ret;

	if (!may_prefetch(vma)) {
		found_nothing(request, start, end);
		return 0;
	}
	if (!(vma->vm_flags & VM_WRITE))
		access &= ~PFN_TAG_WRITE;
	flags = flags_for(access);
	ret = walk_range(request, seq, start, end, flags);
	while (ret && ret != -EBUSY) {
		start = first_not_found(request, start, end);
		if (start >= end)
			return 0;
		ret = walk_pages(request, seq, start, start + PAGE_SIZE, flags);
		if (ret == -EBUSY)
			break;
		start += PAGE_SIZE;
		if (!ret) {
			ret = -EAGAIN;
			continue;
		}
		if (start >= end)
			return 0;
		if (++bad == MAX_BAD)
			flags = 0;
		ret = walk_pages(request, seq, start, end, flags);
	}
	return ret;
}

static int prefetch_part(struct request *request, unsigned long seq)
{
	unsigned long start = part_start(request), end = part_end(request);
	struct vm_area_struct *vma;
	unsigned long vma_start;
	int ret = 0;

	VMA_ITERATOR(vmi, request->mirror->notifier.mm, start);

	for_each_vma_range(vmi, vma, end) {
		vma_start = max(start, vma->vm_start);
		found_nothing(request, start, vma_start);
		start = min(end, vma->vm_end);
		ret = prefetch_range(request, seq, vma, vma_start, start);
		if (ret || request->part.huge)
			return ret;
	}
	found_nothing(request, start, end);
	return 0;
}

/* What is there is usable, also if not all of it could be had. */
static int fault_part(struct request *request, unsigned long seq)
{
	unsigned long start = part_start(request), end = part_end(request);
	int ret;

	ret = walk_range(request, seq, start, end,
			 flags_for(request->fault->access));
	if (!ret || ret == -EBUSY)
		return ret;
	start = first_not_found(request, start, end);
	if (start < end && walk_pages(request, seq, start, end, 0) == -EBUSY)
		return -EBUSY;
	return ret;
}

/* Secret memory is for its process only: not for devices, and the kernel has no mapping of it. */
static bool forget_secrets(struct request *request)
{
	unsigned long start = part_start(request), end = part_end(request);
	struct vm_area_struct *vma;
	bool some = false;

	VMA_ITERATOR(vmi, request->mirror->notifier.mm, start);

	if (!secretmem_active())
		return false;
	for_each_vma_range(vmi, vma, end) {
		if (!vma_is_secretmem(vma))
			continue;
		found_nothing(request, max(start, vma->vm_start),
			      min(end, vma->vm_end));
		some = true;
	}
	return some;
}

/* Find the pages of the part. What is found is true only if no invalidation came since. */
static int walk_part(struct request *request, unsigned long seq)
{
	struct mm_struct *mm = request->mirror->notifier.mm;
	int ret;

	request->part.huge = false;
	if (mmap_read_lock_killable(mm))
		return -EINTR;
	/* The OOM killer has begun to take the process' pages. */
	if (check_stable_address_space(mm)) {
		found_nothing(request, part_start(request), part_end(request));
		ret = -EFAULT;
		goto out_unlock;
	}
	if (request->fault->mode == HMM_MIRROR_FAULT)
		ret = fault_part(request, seq);
	else if (request->fault->mode == HMM_MIRROR_PREFETCH)
		ret = prefetch_part(request, seq);
	else
		ret = walk_range(request, seq, part_start(request),
				 part_end(request), 0);
	if (forget_secrets(request) && !ret &&
	    request->fault->mode == HMM_MIRROR_FAULT)
		ret = -EFAULT;
out_unlock:
	mmap_read_unlock(mm);
	return ret;
}

/* Whether the device can use a page as the request wants it. */
static bool is_usable(const struct request *request, u64 word)
{
	u64 need = PFN_TAG_READ;

	if (request->mirror->ops->link)
		need |= PFN_TAG_MAPPED;
	if (request->fault->mode == HMM_MIRROR_FAULT)
		need |= request->fault->access;
	return (word & need) == need;
}

/* Count the usable pages of the part; in a fault only up to the first that is not. */
static void tally_part(struct request *request, struct tally *tally)
{
	const struct hmm_mirror_part *part = &request->part;
	struct pfn_table_slot *slot =
		pfn_table_find(&request->mirror->table, part->block);
	unsigned int i;
	u64 word;

	for (i = part->first; i < part->behind; i++) {
		word = slot ? pfn_table_slot_word(slot, i) : 0;
		if (!is_usable(request, word)) {
			tally->missing =
				min(tally->missing, page_addr(request, i));
			if (!slot || request->fault->mode == HMM_MIRROR_FAULT)
				return;
			continue;
		}
		tally->granted &= word;
		if (!pfn_table_slot_split(slot)) {
			tally->pages += part->behind - part->first;
			return;
		}
		tally->pages++;
	}
}

/* Make the pages of a range that lie in its first block the part at hand. */
static void set_part(struct request *request, unsigned long start,
		     unsigned long end)
{
	const struct hmm_mirror *mirror = request->mirror;
	u64 index = hmm_mirror_index(mirror, start);
	unsigned int first = index & (PAGES - 1);

	request->part = (struct hmm_mirror_part){
		.block = index >> PFN_TABLE_BLOCK_ORDER,
		.first = first,
		.behind =
			min((end - start) >> PAGE_SHIFT, PAGES - first) + first,
		/* Without links DIRTY is exact, and more rights do no harm. */
		.grant = mirror->ops->link ? request->fault->access :
					     mirror->access,
	};
}

static void tally_none(const struct request *request, struct tally *tally)
{
	*tally = (struct tally){
		.granted = PFN_TAG_ACCESS,
		.missing = request->end,
	};
}

/* Of blocks that are not in the table nothing is usable. */
static void tally_blocks(struct request *request)
{
	struct hmm_mirror_span span = { request->start, request->end };
	struct hmm_mirror *mirror = request->mirror;
	struct hmm_mirror_part *part = &request->part;
	struct pfn_table_slot *slot;
	struct pfn_table_iter iter;

	hmm_mirror_blocks(&iter, mirror, &span);
	while ((slot = pfn_table_next(&iter))) {
		part->block = pfn_table_slot_block(slot);
		hmm_mirror_clip(mirror, &span, part->block, &part->first,
				&part->behind);
		tally_part(request, &request->tally);
	}
}

/* Count the usable pages of all that is asked; the lock has not been dropped. */
static void tally_all(struct request *request)
{
	struct tally *tally = &request->tally;
	unsigned long start;

	tally_none(request, tally);
	if (request->fault->mode != HMM_MIRROR_FAULT) {
		tally_blocks(request);
		return;
	}
	for (start = request->start; start < request->end;
	     start = part_end(request)) {
		set_part(request, start, request->end);
		tally_part(request, tally);
		if (tally->missing < request->end)
			break;
	}
}

/* Let the kernel find memory while nothing is locked. */
static void wait_for_memory(void)
{
	struct page *page = alloc_page(GFP_KERNEL | __GFP_NOWARN);

	if (page)
		__free_page(page);
}

/* Whether an invalidation came since the walk began. */
static bool collided(struct hmm_mirror *mirror, unsigned long seq)
{
	if (hmm_mirror_unchecked(mirror))
		return false;
	return mmu_interval_read_retry(&mirror->notifier, seq) ||
	       hmm_mirror_fails(HMM_MIRROR_SEAM_RETRY);
}

/*
 * Publish and link what a walk found, also if it ended with an error. Returns 0 and keeps
 * the lock if told to, or an error: -EAGAIN if the walk must be done again.
 */
static int publish_part(struct request *request, unsigned long seq, int walked,
			bool keep_lock)
{
	struct hmm_mirror *mirror = request->mirror;
	struct hmm_mirror_part *part = &request->part;
	int ret = -EAGAIN;

	hmm_mirror_walked(mirror, part);
	down_write(&mirror->lock);
	if (collided(mirror, seq))
		goto out_unlock;
	part->special = false;
	part->refused = 0;
	ret = hmm_mirror_publish(mirror, part, &request->reserve);
	if (ret)
		goto out_unlock;
	ret = hmm_mirror_link(mirror, part);
	tally_none(request, &request->tally);
	tally_part(request, &request->tally);
	if (request->fault->mode == HMM_MIRROR_FAULT)
		ret = walked ?: part->refused ?: ret;
	if (!ret && keep_lock)
		return 0;

out_unlock:
	up_write(&mirror->lock);
	return ret;
}

/* Prepare, walk, publish, link. Returns as publish_part(). */
static int try_part(struct request *request, bool keep_lock)
{
	struct hmm_mirror *mirror = request->mirror;
	unsigned long seq;
	int ret;

	if (fatal_signal_pending(current))
		return -EINTR;
	ret = pfn_table_prepare(&mirror->table, &request->reserve,
				GFP_KERNEL_ACCOUNT);
	/* No use to try that again: it has reclaimed. */
	if (ret) {
		request->nomem = MAX_NOMEM;
		return ret;
	}
	request->part.found = request->reserve.words;
	/* For no longer than a walk: a process that is killed meanwhile shall end. */
	if (!mmget_not_zero(mirror->notifier.mm))
		return -ESRCH;
	seq = mmu_interval_read_begin(&mirror->notifier);
	ret = walk_part(request, seq);
	/* The last reference may go here: not in our caller, who may hold what exit needs. */
	mmput_async(mirror->notifier.mm);
	if (ret == -EBUSY)
		return -EAGAIN;
	if (ret == -EINTR)
		return ret;
	return publish_part(request, seq, ret, keep_lock);
}

/* A part, again and again until it is done. Returns as publish_part(), but never -EAGAIN. */
static int do_part(struct request *request, bool keep_lock)
{
	unsigned int tries = 0;
	int ret;

	request->deadline =
		jiffies + msecs_to_jiffies(HMM_RANGE_DEFAULT_TIMEOUT);
	request->nomem = 0;
	tally_none(request, &request->tally);
	for (;;) {
		ret = try_part(request, keep_lock);
		if (ret != -EAGAIN &&
		    (ret != -ENOMEM || request->nomem++ >= MAX_NOMEM))
			return ret;
		if (ret == -EAGAIN)
			atomic64_inc(&request->mirror->stats.retries);
		else
			wait_for_memory();
		/* One walk may have waited for a disk longer than that. */
		if (++tries >= MIN_TRIES &&
		    time_after(jiffies, request->deadline))
			return ret == -EAGAIN ? -EBUSY : ret;
	}
}

static int stop_at_pud(pud_t *pud, unsigned long addr, unsigned long next,
		       struct mm_walk *walk)
{
	if (!pud_leaf(READ_ONCE(*pud)))
		return 0;
	*(unsigned long *)walk->private = addr;
	return 1;
}

static int stop_at_pmd(pmd_t *pmd, unsigned long addr, unsigned long next,
		       struct mm_walk *walk)
{
	*(unsigned long *)walk->private = addr;
	return 1;
}

static int stop_at_hugetlb(pte_t *pte, unsigned long mask, unsigned long addr,
			   unsigned long next, struct mm_walk *walk)
{
	*(unsigned long *)walk->private = addr;
	return 1;
}

/* Ends where the process has a page table, or a huge page. */
static const struct mm_walk_ops to_page_table = {
	.pud_entry = stop_at_pud,
	.pmd_entry = stop_at_pmd,
	.hugetlb_entry = stop_at_hugetlb,
	.walk_lock = PGWALK_RDLOCK,
};

/* The first address of a range that a snapshot or a prefetch could find a page at. */
static unsigned long first_worth_it(const struct request *request,
				    unsigned long start, unsigned long end)
{
	struct mm_struct *mm = request->mirror->notifier.mm;
	struct vm_area_struct *vma;
	unsigned long found = end;

	VMA_ITERATOR(vmi, mm, start);

	if (!mmget_not_zero(mm))
		return start;
	if (mmap_read_lock_killable(mm)) {
		found = start;
		goto out_put;
	}
	if (request->fault->mode == HMM_MIRROR_SNAPSHOT) {
		walk_page_range(mm, start, end, &to_page_table, &found);
	} else {
		for_each_vma_range(vmi, vma, end) {
			if (!may_prefetch(vma))
				continue;
			found = max(start, vma->vm_start);
			break;
		}
	}
	mmap_read_unlock(mm);
out_put:
	mmput_async(mm);
	return found;
}

/*
 * Where to go on behind a part that had nothing: nobody asks for each block of a terabyte that
 * is not there. The last part is done in any case, as the lock is taken in it.
 */
static unsigned long pass_over(const struct request *request,
			       unsigned long start, unsigned long end)
{
	const struct hmm_mirror *mirror = request->mirror;
	unsigned long last;

	last = hmm_mirror_block_addr(mirror,
				     hmm_mirror_index(mirror, end - 1) >>
					     PFN_TABLE_BLOCK_ORDER);
	if (start >= last)
		return start;
	return first_worth_it(request, start,
			      min(last - start, MAX_PASS) + start);
}

/* Part by part. @tally gets what all parts together have. */
static int do_parts(struct request *request, unsigned long start,
		    unsigned long end, bool keep_lock, struct tally *tally)
{
	int ret = 0;

	while (start < end && !ret) {
		set_part(request, start, end);
		start = part_end(request);
		ret = do_part(request, keep_lock && start == end);
		tally->pages += request->tally.pages;
		tally->granted &= request->tally.granted;
		if (start >= end)
			break;
		if (!request->tally.pages && !ret &&
		    request->fault->mode != HMM_MIRROR_FAULT)
			start = pass_over(request, start, end);
		cond_resched();
	}
	return ret;
}

/*
 * While the parts were done one by one, an invalidation may have undone some: the lock is
 * kept once all are there at the same time.
 */
static int complete_and_lock(struct request *request)
{
	unsigned long deadline =
		jiffies + msecs_to_jiffies(HMM_RANGE_DEFAULT_TIMEOUT);
	struct tally unused = {};
	unsigned int tries = 0;
	int ret;

	for (;;) {
		tally_all(request);
		if (request->fault->mode != HMM_MIRROR_FAULT ||
		    request->tally.missing == request->end)
			return 0;
		up_write(&request->mirror->lock);
		ret = -EBUSY;
		if (tries++ >= MIN_TRIES && time_after(jiffies, deadline))
			break;
		set_part(request, request->tally.missing, request->end);
		ret = do_parts(request, part_start(request), part_end(request),
			       true, &unused);
		if (ret)
			break;
	}
	down_read(&request->mirror->lock);
	tally_all(request);
	up_read(&request->mirror->lock);
	return ret;
}

static int check(const struct hmm_mirror *mirror,
		 const struct hmm_mirror_fault *fault)
{
	if (fault->start >= fault->end || !(fault->access & PFN_TAG_READ) ||
	    fault->access & ~PFN_TAG_ACCESS)
		return -EINVAL;
	if (fault->start < mirror->start || fault->end > mirror->end)
		return -EFAULT;
	return fault->access & ~mirror->access ? -EPERM : 0;
}

static void count_request(struct request *request, int ret)
{
	struct hmm_mirror_stats *stats = &request->mirror->stats;
	unsigned long pages = request->fault->present;

	if (request->fault->mode != HMM_MIRROR_FAULT) {
		atomic64_inc(&stats->prefetches);
		atomic64_add(pages, &stats->prefetch_pages);
		return;
	}
	atomic64_inc(&stats->faults);
	atomic64_add(pages, &stats->fault_pages);
	if (!ret)
		atomic64_inc(&stats->faults_handled);
}

static int do_request(struct hmm_mirror *mirror, struct hmm_mirror_fault *fault,
		      bool keep_lock)
{
	struct request request = {
		.mirror = mirror,
		.fault = fault,
		.start = fault->start & PAGE_MASK,
		.end = PAGE_ALIGN(fault->end),
	};
	struct mem_cgroup *group, *before;
	struct tally total;
	int ret;

	fault->present = 0;
	fault->granted = 0;
	ret = check(mirror, fault);
	if (ret)
		return ret;
	/* The process pays, not the worker that faults for its device. */
	group = get_mem_cgroup_from_mm(mirror->notifier.mm);
	before = set_active_memcg(group);
	tally_none(&request, &total);
	ret = do_parts(&request, request.start, request.end, keep_lock, &total);
	/* Of one part all was done under the lock that is held now. */
	if (!ret && keep_lock && part_start(&request) > request.start) {
		ret = complete_and_lock(&request);
		total = request.tally;
	}
	pfn_table_release(&request.reserve);
	set_active_memcg(before);
	mem_cgroup_put(group);
	fault->present = total.pages;
	fault->granted = total.pages ? total.granted : 0;
	count_request(&request, ret);
	return ret;
}

/**
 * hmm_mirror_fault() - get pages of a range
 * @mirror: the mirror; the caller holds no mirror's lock, nor what an invalidation may need
 * @fault: what is wanted, and what became of it
 *
 * Done block by block; an invalidation may take pages out again before the call returns.
 * After an error @fault says how many pages are usable nevertheless.
 *
 * Context: may sleep and reclaim; takes mmap_lock for reading and the mirror's lock.
 * Return: 0 if all is done that the mode asks for; else why not: -EFAULT (nothing is
 * there), -EPERM (no right), -EREMOTEIO or what ->kind() said (a peer's memory is out of
 * reach), -ENOMEM, -EBUSY (invalidations without end), -EINTR (a fatal signal), -ESRCH (the
 * process is gone), what ->link() said, -EINVAL.
 */
int hmm_mirror_fault(struct hmm_mirror *mirror, struct hmm_mirror_fault *fault)
{
	return do_request(mirror, fault, false);
}
EXPORT_SYMBOL_GPL(hmm_mirror_fault);

/**
 * hmm_mirror_fault_and_lock() - get pages of a range, and keep them there
 * @mirror: as for hmm_mirror_fault()
 * @fault: what is wanted, and what became of it
 *
 * As hmm_mirror_fault(), but a fault is done only when all pages are usable at the same
 * time. On success the lock is held exclusively (downgrade_write() is fine), and the pages stay
 * until it is dropped.
 *
 * Context: as hmm_mirror_fault().
 * Return: 0 with the lock held, or an error without.
 */
int hmm_mirror_fault_and_lock(struct hmm_mirror *mirror,
			      struct hmm_mirror_fault *fault)
{
	return do_request(mirror, fault, true);
}
EXPORT_SYMBOL_GPL(hmm_mirror_fault_and_lock);
