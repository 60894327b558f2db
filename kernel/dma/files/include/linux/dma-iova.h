/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Copyright (c) 2026 The Twostep authors
 *
 * Two-step DMA mapping: reserve an I/O virtual address (IOVA) range once, link and
 * unlink pages in it later, as often as needed.
 *
 *	reserve --> link --> sync --> the device uses it --> unlink --> free
 *	             ^                                          |
 *	             +------------------------------------------+
 *
 * reserve   takes addresses, touches no page table. The range belongs to the caller.
 * link      writes page-table entries. The device must not use them before
 * sync      made them visible (on hardware that caches absent entries this is a flush).
 * unlink    clears entries and returns only after the IOTLB forgot them, in strict and
 *	     in lazy mode: after it the device cannot reach the pages.
 * free      returns addresses; nothing may be linked any more.
 *
 * Offsets and lengths are in bytes from the start of the range. An entry is what one
 * unlink removes at once: a granule (the IOMMU's smallest page), or a huge page where an
 * aligned block was linked where the range is congruent to it, or on an IOMMU
 * without tables of ours (virtio) what one link call found contiguous within 2 MiB.
 *
 * Invariants
 *  - An IOVA granule has at most one entry. Linking over a linked granule fails with
 *    -EEXIST and changes nothing.
 *  - An entry lies inside the reserved range, rounded out to granules.
 *  - A call that links many either links a run wholly or not at all, and says up to where
 *    it came. What it says is linked is also synced.
 *  - Unlinking a part of an entry unlinks the whole entry and tells the caller what else
 *    went (&dma_iova_iter.widened). It never leaves a part linked that it was asked for.
 *
 * Locking: the caller serialises the calls on one &struct dma_iova_state. Calls on
 * different states, also of one device, run concurrently: with VT-d they share no lock on
 * the per-page path. All calls but dma_iova_reserve(), and giving back what it reserved,
 * may be made in atomic context, then with a gfp that does not sleep.
 *
 * Which devices: only those behind an IOMMU that translates. For a device that maps
 * directly dma_iova_try_alloc() says no and dma_map_phys() is the way. A device that must
 * bounce (not trusted, behind an IOMMU) can link, by the page edges being bounced, with
 * dma_iova_link() only; dma_iova_reserve() refuses it, since its callers cannot.
 *
 * The names that mainline has since 6.16 have its semantics here. New here are reserve
 * (congruence), link and unlink of many runs with one sync or flush, permissions per run.
 */
#ifndef _LINUX_DMA_IOVA_H
#define _LINUX_DMA_IOVA_H

#include <linux/bits.h>
#include <linux/dma-direction.h>
#include <linux/errno.h>
#include <linux/gfp_types.h>
#include <linux/pfn-tag.h>
#include <linux/types.h>

struct device;

/*
 * DMA_ATTR_MMIO: the address is that of a device's memory (MMIO, possibly without a
 * struct page), not of system memory: no cache maintenance, no bounce, IOMMU_MMIO.
 */
#define DMA_ATTR_MMIO BIT(10)

/**
 * struct dma_iova_state - a reserved IOVA range
 * @addr: IOVA of the first byte; offsets count from here
 *
 * Zero-initialised before the first use, and again after it was freed. The caller
 * serialises all calls that take it.
 */
struct dma_iova_state {
	dma_addr_t addr;
	/* private: bytes reserved, and in the top bits how (DMA_IOVA_*) */
	u64 __size;
};

/* private: the fields of __size */
#define DMA_IOVA_BOUNCED BIT_ULL(63) /* some edge went through swiotlb */
#define DMA_IOVA_WINDOW BIT_ULL(62) /* from the window of large ranges */
#define DMA_IOVA_ORDER \
	GENMASK_ULL(61, 56) /* log2 of the largest entry; 0: any */
#define DMA_IOVA_ORDER_SHIFT 56
#define DMA_IOVA_SIZE GENMASK_ULL(55, 0)

/**
 * dma_use_iova() - whether a state holds a range
 * @state: IOVA state
 *
 * Return: true between a successful reserve and free.
 */
static inline bool dma_use_iova(const struct dma_iova_state *state)
{
	return state->__size != 0;
}

/**
 * dma_iova_size() - bytes that were reserved
 * @state: IOVA state
 *
 * Return: the size given when it was reserved, 0 without a range.
 */
static inline size_t dma_iova_size(const struct dma_iova_state *state)
{
	return state->__size & DMA_IOVA_SIZE;
}

/**
 * struct dma_iova_run - bytes that are contiguous both physically and in the range
 * @phys: physical address of the first byte
 * @offset: where in the range, bytes; congruent to @phys modulo the granule
 * @len: bytes, more than 0
 * @access: PFN_TAG_READ and PFN_TAG_WRITE: what the device may do
 * @kind: how the device reaches it; &PFN_KIND_P2P_BUS and &PFN_KIND_DEVICE_PRIVATE runs
 *	are passed over, nothing is linked
 *
 * Unlinking uses @offset and @len only.
 */
struct dma_iova_run {
	phys_addr_t phys;
	size_t offset;
	size_t len;
	u64 access;
	enum pfn_tag_kind kind;
};

/**
 * struct dma_iova_iter - where a call that links or unlinks many takes its runs from
 * @next: gives the next run, false at the end; must not sleep if the call may not
 * @widened: unlink only: bytes outside the run at hand that went with an entry of which the
 *	run was a part. Called before the flush, once per side at most. Without it, cutting an
 *	entry is the caller's bug and warns; the entry goes all the same
 * @runs: out: runs taken from @next and completely done, passed-over ones included
 *
 * Embed it in a structure with the walk's position.
 */
struct dma_iova_iter {
	bool (*next)(struct dma_iova_iter *iter, struct dma_iova_run *run);
	void (*widened)(struct dma_iova_iter *iter, size_t offset, size_t len);
	size_t runs;
};

/**
 * struct dma_iova_arrays - where a call that links pages takes its arrays of words from
 * @next: gives the next array and returns how many words it has, 0 at the end; must not
 *	sleep if the call may not
 * @last: @next sets it if it gave the last array, which spares it a call; false at first
 * @linked: out: words, of all arrays from the first on, that are as after success
 *
 * Embed it in a structure with the walk's position and the buffer.
 */
struct dma_iova_arrays {
	size_t (*next)(struct dma_iova_arrays *arrays, u64 **words);
	bool last;
	size_t linked;
};

/**
 * struct dma_iova_hull - bytes of a range, from the lowest to the highest
 * @start: offset of the first
 * @end: offset behind the last; equal to @start if there are none
 *
 * An entry at the range's border may begin before its first byte: @start is then negative
 * as a signed number.
 */
struct dma_iova_hull {
	size_t start;
	size_t end;
};

#ifdef CONFIG_HAS_DMA

dma_addr_t dma_map_phys(struct device *dev, phys_addr_t phys, size_t size,
			enum dma_data_direction dir, unsigned long attrs);
void dma_unmap_phys(struct device *dev, dma_addr_t addr, size_t size,
		    enum dma_data_direction dir, unsigned long attrs);
bool dma_need_unmap(struct device *dev);
int dma_iova_no_range(struct device *dev);

#else /* CONFIG_HAS_DMA */

static inline dma_addr_t dma_map_phys(struct device *dev, phys_addr_t phys,
				      size_t size, enum dma_data_direction dir,
				      unsigned long attrs)
{
	return ~(dma_addr_t)0;
}

static inline void dma_unmap_phys(struct device *dev, dma_addr_t addr,
				  size_t size, enum dma_data_direction dir,
				  unsigned long attrs)
{
}

static inline bool dma_need_unmap(struct device *dev)
{
	return false;
}

static inline int dma_iova_no_range(struct device *dev)
{
	return -EOPNOTSUPP;
}

#endif /* CONFIG_HAS_DMA */

#ifdef CONFIG_DMA_IOVA

bool dma_iova_try_alloc(struct device *dev, struct dma_iova_state *state,
			phys_addr_t phys, size_t size);
int dma_iova_reserve(struct device *dev, struct dma_iova_state *state, u64 like,
		     size_t modulo, size_t size);
void dma_iova_free(struct device *dev, struct dma_iova_state *state);

int dma_iova_link(struct device *dev, struct dma_iova_state *state,
		  phys_addr_t phys, size_t offset, size_t size,
		  enum dma_data_direction dir, unsigned long attrs);
int dma_iova_sync(struct device *dev, struct dma_iova_state *state,
		  size_t offset, size_t size);
void dma_iova_unlink(struct device *dev, struct dma_iova_state *state,
		     size_t offset, size_t size, enum dma_data_direction dir,
		     unsigned long attrs);
void dma_iova_destroy(struct device *dev, struct dma_iova_state *state,
		      size_t mapped_len, enum dma_data_direction dir,
		      unsigned long attrs);

int dma_iova_link_runs(struct device *dev, struct dma_iova_state *state,
		       struct dma_iova_iter *iter, gfp_t gfp);
void dma_iova_unlink_runs(struct device *dev, struct dma_iova_state *state,
			  struct dma_iova_iter *iter);
int dma_iova_link_pfns(struct device *dev, struct dma_iova_state *state,
		       size_t offset, u64 *words, size_t nr, size_t *done,
		       gfp_t gfp);
int dma_iova_link_arrays(struct device *dev, struct dma_iova_state *state,
			 size_t offset, struct dma_iova_arrays *arrays,
			 gfp_t gfp);
struct dma_iova_hull dma_iova_unlink_pfns(struct device *dev,
					  struct dma_iova_state *state,
					  size_t offset, u64 *words, size_t nr);

#else /* CONFIG_DMA_IOVA */

static inline bool dma_iova_try_alloc(struct device *dev,
				      struct dma_iova_state *state,
				      phys_addr_t phys, size_t size)
{
	return false;
}

static inline int dma_iova_reserve(struct device *dev,
				   struct dma_iova_state *state, u64 like,
				   size_t modulo, size_t size)
{
	return dma_iova_no_range(dev);
}

static inline void dma_iova_free(struct device *dev,
				 struct dma_iova_state *state)
{
}

static inline int dma_iova_link(struct device *dev,
				struct dma_iova_state *state, phys_addr_t phys,
				size_t offset, size_t size,
				enum dma_data_direction dir,
				unsigned long attrs)
{
	return -EOPNOTSUPP;
}

static inline int dma_iova_sync(struct device *dev,
				struct dma_iova_state *state, size_t offset,
				size_t size)
{
	return -EOPNOTSUPP;
}

static inline void dma_iova_unlink(struct device *dev,
				   struct dma_iova_state *state, size_t offset,
				   size_t size, enum dma_data_direction dir,
				   unsigned long attrs)
{
}

static inline void dma_iova_destroy(struct device *dev,
				    struct dma_iova_state *state,
				    size_t mapped_len,
				    enum dma_data_direction dir,
				    unsigned long attrs)
{
}

static inline int dma_iova_link_runs(struct device *dev,
				     struct dma_iova_state *state,
				     struct dma_iova_iter *iter, gfp_t gfp)
{
	iter->runs = 0;
	return -EOPNOTSUPP;
}

static inline void dma_iova_unlink_runs(struct device *dev,
					struct dma_iova_state *state,
					struct dma_iova_iter *iter)
{
}

static inline int dma_iova_link_pfns(struct device *dev,
				     struct dma_iova_state *state,
				     size_t offset, u64 *words, size_t nr,
				     size_t *done, gfp_t gfp)
{
	*done = 0;
	return -EOPNOTSUPP;
}

static inline int
dma_iova_link_arrays(struct device *dev, struct dma_iova_state *state,
		     size_t offset, struct dma_iova_arrays *arrays, gfp_t gfp)
{
	arrays->linked = 0;
	return -EOPNOTSUPP;
}

static inline struct dma_iova_hull
dma_iova_unlink_pfns(struct device *dev, struct dma_iova_state *state,
		     size_t offset, u64 *words, size_t nr)
{
	return (struct dma_iova_hull){};
}

#endif /* CONFIG_DMA_IOVA */

#endif /* _LINUX_DMA_IOVA_H */
