// SPDX-License-Identifier: GPL-2.0
/*
 * Copyright (c) 2026 The Twostep authors
 *
 * On-demand paging umems: their life, faults and invalidations. The model is in
 * rdma/ib_umem_odp.h; how devices address pages in umem_odp_dma.c, runs in
 * umem_odp_runs.c, counters in umem_odp_stats.c.
 *
 * Life. Registering takes a mirror and a range of IOVAs, both of constant cost. Releasing
 * unlinks all that is present with one flush, marks what was written, stops the notifier,
 * and gives the IOVAs back. The driver has stopped the device before.
 *
 * Implicit. A parent stands for the whole address space. It has no pages: the driver makes a
 * child for each part that the device touches. A child keeps its parent, whose counters
 * go on after the child.
 *
 * An entry larger than a page (IB_ACCESS_HUGETLB) is faulted in whole, and a fault after
 * which the device could not fill it in one piece is refused: such memory is not what
 * the flag promised.
 */

#include <linux/export.h>
#include <linux/hugetlb.h>
#include <linux/overflow.h>
#include <linux/sched.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>

#include "umem_odp.h"

/* For drivers with nothing to do but zap. */
const struct mmu_interval_notifier_ops ib_umem_odp_notifier_ops = {
	.invalidate = ib_umem_odp_invalidate,
};
EXPORT_SYMBOL_GPL(ib_umem_odp_notifier_ops);

static struct ib_umem_odp *odp_alloc(struct ib_device *device,
				     struct mm_struct *mm, bool writable)
{
	struct ib_umem_odp *odp = kzalloc(sizeof(*odp), GFP_KERNEL);

	if (!odp)
		return NULL;
	odp->umem.ibdev = device;
	odp->umem.owning_mm = mm;
	odp->umem.writable = writable;
	odp->umem.is_odp = 1;
	odp->page_shift = PAGE_SHIFT;
	refcount_set(&odp->refs, 1);
	mmgrab(mm);
	return odp;
}

/* Of a parent the last one out frees: itself, or a child. */
static void odp_put(struct ib_umem_odp *odp)
{
	if (!refcount_dec_and_test(&odp->refs))
		return;
	mmdrop(odp->umem.owning_mm);
	kfree(odp);
}

/* Mirror the pages around @umem.address and @umem.length, rounded out to entries. */
static int odp_mirror(struct ib_umem_odp *odp,
		      const struct mmu_interval_notifier_ops *ops)
{
	unsigned long entry = BIT(odp->page_shift);
	unsigned long start, end;
	int ret;

	if (check_add_overflow(odp->umem.address,
			       (unsigned long)odp->umem.length, &end) ||
	    end > ULONG_MAX - (entry - 1))
		return -EOVERFLOW;
	start = ALIGN_DOWN(odp->umem.address, entry);
	end = ALIGN(end, entry);
	if (start == end)
		return -EINVAL;

	odp->mirror.access = PFN_TAG_READ;
	if (odp->umem.writable)
		odp->mirror.access |= PFN_TAG_WRITE;
	ret = ib_umem_odp_reserve(odp, start, end - start);
	if (ret)
		return ret;
	ret = hmm_mirror_init(&odp->mirror, odp->umem.owning_mm, start,
			      end - start, ops ?: &ib_umem_odp_notifier_ops);
	if (ret)
		ib_umem_odp_unreserve(odp);
	else
		ib_umem_odp_count(odp);
	return ret;
}

/**
 * ib_umem_odp_get() - register a part of the caller's address space
 * @device: device
 * @addr: user address of the first byte
 * @size: bytes
 * @access: IB_ACCESS_*, with IB_ACCESS_ON_DEMAND
 * @ops: what to do when pages go: NULL for ib_umem_odp_invalidate(), or an invalidate that
 *	calls that, or one that locks, calls mmu_interval_set_seq(), makes the device
 *	forget what lies in the whole 2 MiB blocks around the range, and calls
 *	ib_umem_odp_unmap_dma_pages()
 *
 * Touches no page; neither time nor memory depend on @size.
 *
 * Return: the umem; -EOPNOTSUPP if the device cannot, -ENOMEM, -EOVERFLOW, -EINVAL.
 */
struct ib_umem_odp *ib_umem_odp_get(struct ib_device *device,
				    unsigned long addr, size_t size, int access,
				    const struct mmu_interval_notifier_ops *ops)
{
	struct ib_umem_odp *odp;
	int ret;

	if (WARN_ON_ONCE(!(access & IB_ACCESS_ON_DEMAND)))
		return ERR_PTR(-EINVAL);
	odp = odp_alloc(device, current->mm, ib_access_writable(access));
	if (!odp)
		return ERR_PTR(-ENOMEM);
	odp->umem.address = addr;
	odp->umem.length = size;
#ifdef CONFIG_HUGETLB_PAGE
	if (access & IB_ACCESS_HUGETLB)
		odp->page_shift = HPAGE_SHIFT;
#endif
	/* An entry must not cross the blocks in which pages come and go. */
	ret = -EOPNOTSUPP;
	if (odp->page_shift <= PAGE_SHIFT + PFN_TABLE_BLOCK_ORDER)
		ret = odp_mirror(odp, ops);
	if (ret) {
		odp_put(odp);
		return ERR_PTR(ret);
	}
	return odp;
}
EXPORT_SYMBOL(ib_umem_odp_get);

/**
 * ib_umem_odp_alloc_implicit() - make a parent for the caller's whole address space
 * @device: device
 * @access: IB_ACCESS_*
 *
 * It has no pages, see ib_umem_odp_alloc_child().
 *
 * Return: the parent; -EOPNOTSUPP if the device cannot, -ENOMEM, -EINVAL.
 */
struct ib_umem_odp *ib_umem_odp_alloc_implicit(struct ib_device *device,
					       int access)
{
	struct ib_umem_odp *odp;
	int ret;

	if (access & IB_ACCESS_HUGETLB)
		return ERR_PTR(-EINVAL);
	ret = ib_umem_odp_probe(device);
	if (ret)
		return ERR_PTR(ret);
	odp = odp_alloc(device, current->mm, ib_access_writable(access));
	if (!odp)
		return ERR_PTR(-ENOMEM);
	odp->is_implicit_odp = true;
	init_rwsem(&odp->mirror.lock);
	ib_umem_odp_set_init(&odp->children);
	ib_umem_odp_count(odp);
	return odp;
}
EXPORT_SYMBOL(ib_umem_odp_alloc_implicit);

/**
 * ib_umem_odp_alloc_child() - make a umem for a part of a parent's address space
 * @root: the parent; the caller sees to it that it is not released meanwhile
 * @addr: user address of the first byte
 * @size: bytes
 * @ops: as for ib_umem_odp_get()
 *
 * Return: the child; -EFAULT if the address space is gone, else as ib_umem_odp_get().
 */
struct ib_umem_odp *
ib_umem_odp_alloc_child(struct ib_umem_odp *root, unsigned long addr,
			size_t size,
			const struct mmu_interval_notifier_ops *ops)
{
	struct mm_struct *mm = root->umem.owning_mm;
	struct ib_umem_odp *odp;
	int ret;

	if (WARN_ON(!root->is_implicit_odp))
		return ERR_PTR(-EINVAL);
	/* A notifier can only be registered with an address space that lives. */
	if (!mmget_not_zero(mm))
		return ERR_PTR(-EFAULT);
	odp = odp_alloc(root->umem.ibdev, mm, root->umem.writable);
	if (!odp) {
		ret = -ENOMEM;
		goto out;
	}
	odp->umem.address = addr;
	odp->umem.length = size;
	refcount_inc(&root->refs);
	odp->root = root;
	ret = odp_mirror(odp, ops);
	if (ret) {
		odp_put(odp);
		odp_put(root);
	}
out:
	mmput(mm);
	return ret ? ERR_PTR(ret) : odp;
}
EXPORT_SYMBOL(ib_umem_odp_alloc_child);

/**
 * ib_umem_odp_release() - end a umem
 * @umem_odp: the umem; the device does not use it any more
 *
 * Waits for invalidations. What is present is unlinked with one flush, what the device may
 * have written is marked.
 */
void ib_umem_odp_release(struct ib_umem_odp *umem_odp)
{
	struct ib_umem_odp *root = umem_odp->root;

	if (!umem_odp->is_implicit_odp) {
		hmm_mirror_destroy(&umem_odp->mirror);
		ib_umem_odp_unreserve(umem_odp);
	}
	ib_umem_odp_uncount(umem_odp);
	odp_put(umem_odp);
	if (root)
		odp_put(root);
}
EXPORT_SYMBOL(ib_umem_odp_release);

/* Whether the device can fill every entry of a range. */
static bool all_entries_whole(struct ib_umem_odp *odp, unsigned long start,
			      unsigned long end)
{
	struct ib_umem_odp_iter iter;
	struct ib_umem_odp_run run;
	size_t bytes = 0;

	if (odp->page_shift == PAGE_SHIFT)
		return true;
	ib_umem_odp_runs(&iter, odp, start, end);
	while (ib_umem_odp_next_run(&iter, &run))
		bytes += run.len;
	return bytes == end - start;
}

/**
 * ib_umem_odp_fault_and_lock() - bring pages in and keep them
 * @umem_odp: the umem
 * @fault: which bytes, for what access, how hard to try; on return @fault->start and
 *	@fault->end are rounded out to entries, @fault->present says how many pages
 *	(of PAGE_SIZE) are usable
 *
 * On success the umem is locked shared: what is present stays until the caller has filled the
 * device's entries and calls ib_umem_odp_unlock_shared(). After %HMM_MIRROR_FAULT all
 * of the range is present; after the other modes there may be holes, and the entries of
 * the whole range are to be filled or cleared.
 *
 * Context: sleeps; a page may be read from a disk.
 * Return: 0; then the lock is held. -EFAULT outside the umem, or what hmm_mirror_fault()
 * says; -EINVAL if an entry larger than a page is made of pages that are not one.
 */
int ib_umem_odp_fault_and_lock(struct ib_umem_odp *umem_odp,
			       struct hmm_mirror_fault *fault)
	__acquires(&umem_odp->mirror.lock)
{
	unsigned long entry = BIT(umem_odp->page_shift);
	int ret;

	if (fault->start >= fault->end ||
	    fault->start < ib_umem_start(umem_odp) ||
	    fault->end > ib_umem_end(umem_odp))
		return -EFAULT;
	fault->start = ALIGN_DOWN(fault->start, entry);
	fault->end = ALIGN(fault->end, entry);
	ret = hmm_mirror_fault_and_lock(&umem_odp->mirror, fault);
	if (ret)
		return ret;
	downgrade_write(&umem_odp->mirror.lock);
	if (fault->mode == HMM_MIRROR_FAULT &&
	    !all_entries_whole(umem_odp, fault->start, fault->end)) {
		ib_umem_odp_unlock_shared(umem_odp);
		ibdev_dbg(umem_odp->umem.ibdev,
			  "no entries of %lu bytes at %#lx-%#lx\n", entry,
			  fault->start, fault->end);
		return -EINVAL;
	}
	return 0;
}
EXPORT_SYMBOL_GPL(ib_umem_odp_fault_and_lock);

/**
 * ib_umem_odp_map_dma_and_lock() - bring pages in and keep them
 * @umem_odp: the umem
 * @user_virt: user address of the first byte
 * @bcnt: bytes
 * @access_mask: ODP_READ_ALLOWED_BIT, and ODP_WRITE_ALLOWED_BIT to write
 * @fault: false to take only what the process has at hand
 *
 * ib_umem_odp_fault_and_lock() for those who think in entries. Unlock with
 * ib_umem_odp_unlock_shared().
 *
 * Return: how many entries the range has, all of them present if @fault, and the lock is
 * held; or an error.
 */
int ib_umem_odp_map_dma_and_lock(struct ib_umem_odp *umem_odp, u64 user_virt,
				 u64 bcnt, u64 access_mask, bool fault)
	__acquires(&umem_odp->mirror.lock)
{
	struct hmm_mirror_fault request = {
		.start = user_virt,
		.access = PFN_TAG_READ,
		.mode = fault ? HMM_MIRROR_FAULT : HMM_MIRROR_SNAPSHOT,
	};
	int ret;

	if (!access_mask)
		return -EINVAL;
	if (check_add_overflow(user_virt, bcnt, &request.end) ||
	    bcnt >> umem_odp->page_shift >= INT_MAX)
		return -EFAULT;
	if (access_mask & ODP_WRITE_ALLOWED_BIT)
		request.access |= PFN_TAG_WRITE;
	ret = ib_umem_odp_fault_and_lock(umem_odp, &request);
	return ret ?: (request.end - request.start) >> umem_odp->page_shift;
}
EXPORT_SYMBOL(ib_umem_odp_map_dma_and_lock);

/**
 * ib_umem_odp_unmap_dma_pages() - take pages from the device
 * @umem_odp: the umem, its lock held exclusively
 * @virt: user address of the first byte
 * @bound: user address behind the last byte
 *
 * One IOTLB flush, whatever the number of pages; then what the device may have written is
 * marked dirty. What shares an entry of the I/O page table with a page in the range loses
 * its link with it, and &ib_umem_odp.zap is called for all that does. A driver without it
 * has already made the device forget the 2 MiB blocks around the range.
 */
void ib_umem_odp_unmap_dma_pages(struct ib_umem_odp *umem_odp, u64 virt,
				 u64 bound)
{
	ib_umem_odp_assert_locked(umem_odp);
	virt = max_t(u64, virt, ib_umem_start(umem_odp));
	bound = min_t(u64, bound, ib_umem_end(umem_odp));
	if (virt < bound)
		hmm_mirror_clear(&umem_odp->mirror, virt, bound);
}
EXPORT_SYMBOL(ib_umem_odp_unmap_dma_pages);

/**
 * ib_umem_odp_invalidate() - for &mmu_interval_notifier_ops.invalidate
 * @mni: the umem's notifier
 * @range: which pages are about to go
 * @cur_seq: for mmu_interval_set_seq()
 *
 * Waits for the umem's lock, zaps, unlinks with one flush, marks dirty, forgets.
 *
 * Return: false if it would have to wait and must not.
 */
bool ib_umem_odp_invalidate(struct mmu_interval_notifier *mni,
			    const struct mmu_notifier_range *range,
			    unsigned long cur_seq)
{
	struct ib_umem_odp *odp =
		container_of(mni, struct ib_umem_odp, mirror.notifier);

	return hmm_mirror_invalidate(&odp->mirror, range, cur_seq);
}
EXPORT_SYMBOL_GPL(ib_umem_odp_invalidate);
