/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Copyright (c) 2026 The Twostep authors
 *
 * User memory that a device pages in on demand (ODP).
 *
 * A umem is a range of a process' address space that a device accesses without a page of it
 * being pinned. It is a mirror of that range (linux/hmm-mirror.h) plus a way in which the
 * device addresses the pages:
 *
 *	IOVA	the device sits behind an IOMMU. One range of I/O virtual addresses is
 *		reserved for the whole umem, congruent to the user address modulo 2 MiB;
 *		pages are linked in it as they come. The address of a page depends on
 *		where it is in the umem, on nothing else.
 *	DIRECT	the device reaches all memory by its bus address.
 *	VIRT	the device is software (ib_uses_virt_dma()): the "DMA address" is the kernel's
 *		own. Nothing is linked and nobody is zapped: the device takes the lock.
 *
 * Devices that would work on copies of pages (bounce buffers), that do not snoop caches, or
 * whose addresses come from other DMA operations are refused with -EOPNOTSUPP.
 *
 *	registered --fault--> pages present --populate--> the device's own table
 *	    ^                                                  |
 *	    +-- unlink, dirty, gone <-- zap <-- invalidation --+
 *
 * The device's own table has entries of @page_shift each, entry 0 at ib_umem_start().
 * Entries are filled from runs, and zapped by runs: bytes that are neighbours in user
 * addresses and in DMA addresses, with equal rights, cut to whole entries.
 *
 * Invariants
 *  - Registration allocates nothing whose size depends on the length, and touches no page.
 *  - An entry is filled from pages that are present, under the lock; zapped before they go.
 *  - A page that the device may not write is not writable for it in the IOMMU either.
 *  - The IOVAs have nothing to do with the address that the memory region has on the wire.
 *
 * Vocabulary: a page is PAGE_SIZE; an entry is BIT(page_shift), more only with
 * IB_ACCESS_HUGETLB.
 *
 * Functions are documented where they are: drivers/infiniband/core/umem_odp*.c. For authors of
 * drivers: Documentation/infiniband/odp.rst.
 *
 * Locking: the mirror's lock. Shared: what ib_umem_odp_fault_and_lock() returns with, and
 * what filling entries needs; several may do so at once, they fill in the same. Exclusive:
 * zapping, and clearing &ib_umem_odp.zap (who sets it: see there). It nests inside the kernel's
 * reclaim: whoever holds it allocates with GFP_ATOMIC or GFP_NOWAIT only.
 */
#ifndef IB_UMEM_ODP_H
#define IB_UMEM_ODP_H

#include <linux/dma-mapping.h>
#include <linux/hmm-mirror.h>
#include <linux/lockdep.h>
#include <linux/refcount.h>
#include <rdma/ib_umem.h>
#include <rdma/ib_verbs.h>

struct ib_umem_odp;
struct ib_umem_odp_device;
struct ib_umem_odp_iter;
struct sk_buff;

/**
 * enum ib_umem_odp_way - how a device addresses the pages, see the model above
 * @IB_UMEM_ODP_IOVA: by an I/O virtual address
 * @IB_UMEM_ODP_DIRECT: by the bus address
 * @IB_UMEM_ODP_VIRT: by the kernel's own address
 */
enum ib_umem_odp_way {
	IB_UMEM_ODP_IOVA,
	IB_UMEM_ODP_DIRECT,
	IB_UMEM_ODP_VIRT,
};

/**
 * ib_umem_odp_zap_fn - make the device forget entries
 * @odp: the umem, its lock held exclusively
 * @runs: for ib_umem_odp_next_run(): the bytes to forget, whole entries. Of a run only
 *	its address and length mean anything
 *
 * Returns when the device does not use the entries any more. Cannot fail: a driver that
 * cannot zap takes the whole memory region away from the device.
 */
typedef void ib_umem_odp_zap_fn(struct ib_umem_odp *odp,
				struct ib_umem_odp_iter *runs);

/**
 * enum ib_umem_odp_stat - what is counted, per umem and per device
 * @IB_UMEM_ODP_PAGE_FAULTS: pages that were usable when a fault returned, also those that had
 *	been before
 * @IB_UMEM_ODP_PAGE_FAULTS_HANDLED: faults that got all they asked for
 * @IB_UMEM_ODP_PAGE_INVALIDATIONS: pages that invalidations took out
 * @IB_UMEM_ODP_PAGE_INVALIDATIONS_HANDLED: invalidations that took something out
 * @IB_UMEM_ODP_PAGE_PREFETCH: pages that were usable after a prefetch; what is resident when
 *	the driver looks at registration counts
 * @IB_UMEM_ODP_FAULTS: faults
 * @IB_UMEM_ODP_INVALIDATIONS: invalidations of a part of the umem
 * @IB_UMEM_ODP_PREFETCHES: prefetches
 * @IB_UMEM_ODP_RETRIES: page walks thrown away because an invalidation came between, or
 *	another fault used up the room
 * @IB_UMEM_ODP_IOMMU_CALLS: calls of the DMA core that link or unlink pages
 * @IB_UMEM_ODP_IOMMU_FLUSHES: of these, those that unlink: each ends with one IOTLB flush
 * @IB_UMEM_ODP_METADATA_BYTES: memory held now, for what was touched and for the umem itself
 * @IB_UMEM_ODP_NR_STATS: how many there are
 *
 * What mlx5 of 6.12 counts is among the first five, under its names and in its units.
 */
enum ib_umem_odp_stat {
	IB_UMEM_ODP_PAGE_FAULTS,
	IB_UMEM_ODP_PAGE_FAULTS_HANDLED,
	IB_UMEM_ODP_PAGE_INVALIDATIONS,
	IB_UMEM_ODP_PAGE_INVALIDATIONS_HANDLED,
	IB_UMEM_ODP_PAGE_PREFETCH,
	IB_UMEM_ODP_FAULTS,
	IB_UMEM_ODP_INVALIDATIONS,
	IB_UMEM_ODP_PREFETCHES,
	IB_UMEM_ODP_RETRIES,
	IB_UMEM_ODP_IOMMU_CALLS,
	IB_UMEM_ODP_IOMMU_FLUSHES,
	IB_UMEM_ODP_METADATA_BYTES,
	IB_UMEM_ODP_NR_STATS,
};

/**
 * struct ib_umem_odp_set - umems that are counted together
 * @lock: protects all; nests outside the umems' locks
 * @members: those that live
 * @gone: sums over those that do not
 */
struct ib_umem_odp_set {
	struct mutex lock; /* members, gone */
	struct list_head members;
	u64 gone[IB_UMEM_ODP_NR_STATS];
};

/**
 * struct ib_umem_odp - an on-demand paging umem
 * @umem: the base; its address and length as registered
 * @mirror: the pages; of an implicit parent only the lock is in use
 * @iova: where the device sees the first page, for %IB_UMEM_ODP_IOVA
 * @way: how the device addresses the pages
 * @page_shift: log2 of the bytes of an entry of the device
 * @is_implicit_odp: a parent that stands for the whole address space: no pages of its own
 * @private: the driver's
 * @zap: the driver's, NULL while the device has no entries that it could use. Cleared with
 *	the lock held exclusively; set with it, or shared by who alone can enable the
 *	device's use of the umem, or before the first fault
 * @links: calls that linked pages
 * @unlinks: calls that unlinked pages
 * @refs: children keep their parent
 * @root: the implicit parent of a child
 * @device: what the device's umems have in common, NULL if it does not announce ODP
 * @in_root: in &ib_umem_odp.children of the parent
 * @in_device: in the device's set
 * @children: of an implicit parent
 */
struct ib_umem_odp {
	struct ib_umem umem;
	struct hmm_mirror mirror;
	struct dma_iova_state iova;
	enum ib_umem_odp_way way;
	unsigned int page_shift;
	bool is_implicit_odp;
	void *private;
	ib_umem_odp_zap_fn *zap;
	atomic64_t links;
	atomic64_t unlinks;
	refcount_t refs;
	struct ib_umem_odp *root;
	struct ib_umem_odp_device *device;
	struct list_head in_root;
	struct list_head in_device;
	struct ib_umem_odp_set children;
};

/**
 * struct ib_umem_odp_run - bytes that are neighbours for the process and for the device
 * @addr: user address of the first, at an entry's border
 * @len: bytes, whole entries, more than 0
 * @dma: DMA address of the first, at an entry's border
 * @access: PFN_TAG_READ, and PFN_TAG_WRITE if the device may write
 */
struct ib_umem_odp_run {
	unsigned long addr;
	size_t len;
	dma_addr_t dma;
	u64 access;
};

/**
 * struct ib_umem_odp_iter - the runs of a part of a umem
 * @odp: the umem, its lock held from ib_umem_odp_runs() until the last use
 *
 * Runs come in ascending order, unless the part is larger than what is present: then
 * they end at 2 MiB borders and come in any order.
 */
struct ib_umem_odp_iter {
	struct ib_umem_odp *odp;
	/* private: where the pages come from, and for zapping the last run */
	struct hmm_mirror_iter own;
	struct hmm_mirror_iter *pages;
	struct ib_umem_odp_run last;
	bool zap;
};

static inline struct ib_umem_odp *to_ib_umem_odp(struct ib_umem *umem)
{
	return container_of(umem, struct ib_umem_odp, umem);
}

/* Address of the first entry of a umem. */
static inline unsigned long ib_umem_start(const struct ib_umem_odp *umem_odp)
{
	return umem_odp->mirror.start;
}

/* Address behind the last entry of a umem. */
static inline unsigned long ib_umem_end(const struct ib_umem_odp *umem_odp)
{
	return umem_odp->mirror.end;
}

/* How many entries a device needs for a umem. */
static inline size_t ib_umem_odp_num_pages(const struct ib_umem_odp *umem_odp)
{
	return (ib_umem_end(umem_odp) - ib_umem_start(umem_odp)) >>
	       umem_odp->page_shift;
}

/* Whether no page of a umem is present; without the lock only a hint. */
static inline bool ib_umem_odp_empty(const struct ib_umem_odp *umem_odp)
{
	return !READ_ONCE(umem_odp->mirror.table.nr);
}

/* Access masks of ib_umem_odp_map_dma_and_lock(). */
#define ODP_READ_ALLOWED_BIT BIT_ULL(0)
#define ODP_WRITE_ALLOWED_BIT BIT_ULL(1)

#ifdef CONFIG_INFINIBAND_ON_DEMAND_PAGING

static inline void ib_umem_odp_lock(struct ib_umem_odp *umem_odp)
	__acquires(&umem_odp->mirror.lock)
{
	down_write(&umem_odp->mirror.lock);
}

static inline void ib_umem_odp_unlock(struct ib_umem_odp *umem_odp)
	__releases(&umem_odp->mirror.lock)
{
	up_write(&umem_odp->mirror.lock);
}

static inline void ib_umem_odp_lock_shared(struct ib_umem_odp *umem_odp)
	__acquires(&umem_odp->mirror.lock)
{
	/* Nearly always free, and then cheaper to try. Lockdep learns from down_read() only. */
	if (IS_ENABLED(CONFIG_LOCKDEP) ||
	    !down_read_trylock(&umem_odp->mirror.lock))
		down_read(&umem_odp->mirror.lock);
}

static inline void ib_umem_odp_unlock_shared(struct ib_umem_odp *umem_odp)
	__releases(&umem_odp->mirror.lock)
{
	up_read(&umem_odp->mirror.lock);
}

static inline void ib_umem_odp_assert_locked(struct ib_umem_odp *umem_odp)
{
	lockdep_assert_held_write(&umem_odp->mirror.lock);
}

struct ib_umem_odp *
ib_umem_odp_get(struct ib_device *device, unsigned long addr, size_t size,
		int access, const struct mmu_interval_notifier_ops *ops);
struct ib_umem_odp *ib_umem_odp_alloc_implicit(struct ib_device *device,
					       int access);
struct ib_umem_odp *
ib_umem_odp_alloc_child(struct ib_umem_odp *root, unsigned long addr,
			size_t size,
			const struct mmu_interval_notifier_ops *ops);
void ib_umem_odp_release(struct ib_umem_odp *umem_odp);

int ib_umem_odp_map_dma_and_lock(struct ib_umem_odp *umem_odp, u64 user_virt,
				 u64 bcnt, u64 access_mask, bool fault)
	__acquires(&umem_odp->mirror.lock);
void ib_umem_odp_unmap_dma_pages(struct ib_umem_odp *umem_odp, u64 virt,
				 u64 bound);

int ib_umem_odp_fault_and_lock(struct ib_umem_odp *umem_odp,
			       struct hmm_mirror_fault *fault)
	__acquires(&umem_odp->mirror.lock);
bool ib_umem_odp_invalidate(struct mmu_interval_notifier *mni,
			    const struct mmu_notifier_range *range,
			    unsigned long cur_seq);
extern const struct mmu_interval_notifier_ops ib_umem_odp_notifier_ops;

void ib_umem_odp_runs(struct ib_umem_odp_iter *iter,
		      struct ib_umem_odp *umem_odp, unsigned long start,
		      unsigned long end);
bool ib_umem_odp_next_run(struct ib_umem_odp_iter *iter,
			  struct ib_umem_odp_run *run);

void ib_umem_odp_read_stats(struct ib_umem_odp *umem_odp, u64 *stats);
void ib_umem_odp_read_device_stats(struct ib_device *device, u64 *stats);
int ib_umem_odp_fill_stats(struct sk_buff *msg, struct ib_umem_odp *umem_odp);

#else /* CONFIG_INFINIBAND_ON_DEMAND_PAGING */

static inline void ib_umem_odp_lock(struct ib_umem_odp *umem_odp)
{
}

static inline void ib_umem_odp_unlock(struct ib_umem_odp *umem_odp)
{
}

static inline struct ib_umem_odp *
ib_umem_odp_get(struct ib_device *device, unsigned long addr, size_t size,
		int access, const struct mmu_interval_notifier_ops *ops)
{
	return ERR_PTR(-EINVAL);
}

static inline void ib_umem_odp_release(struct ib_umem_odp *umem_odp)
{
}

static inline int ib_umem_odp_fill_stats(struct sk_buff *msg,
					 struct ib_umem_odp *umem_odp)
{
	return 0;
}

#endif /* CONFIG_INFINIBAND_ON_DEMAND_PAGING */

#endif /* IB_UMEM_ODP_H */
