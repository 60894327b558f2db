// SPDX-License-Identifier: GPL-2.0
/*
 * Copyright (c) 2026 The Twostep authors
 *
 * Two-step DMA: link and unlink one run of a range (linux/dma-iova.h).
 *
 * An unlink flushes before it returns, in lazy mode too: whoever unlinks is about to give
 * pages away. Only dma_iova_destroy() of a range from dma_iova_try_alloc() leaves the flush
 * to the domain's flush queue, and with it the reuse of the range: the same promise as
 * dma_unmap_page().
 *
 * Bouncing. The granules at a mapping's unaligned ends hold bytes of others, which a
 * device that is not trusted must not see. dma_iova_link() puts bounce pages there. Whoever
 * unlinks with the same bounds finds them through the I/O page table, clears, flushes, and
 * only then copies back and frees them: until the flush the device can still write there.
 */

#include <linux/dma-direct.h>
#include <linux/dma-map-ops.h>
#include <linux/export.h>
#include <linux/iommu-dma.h>
#include <linux/iommu.h>
#include <linux/iommu-runs.h>
#include <linux/kasan.h>
#include <linux/memremap.h>
#include <linux/swiotlb.h>
#include <trace/events/dma_iova.h>

#include "dma-iova.h"

/**
 * dma_iova_flush() - wait until the IOTLB forgot what was unmapped
 * @domain: the domain
 * @gather: what, possibly nothing
 */
void dma_iova_flush(struct iommu_domain *domain,
		    struct iommu_iotlb_gather *gather)
{
	if (gather->start > gather->end && list_empty(&gather->freelist))
		return;
	dma_iova_count(DMA_IOVA_FLUSHES, 1);
	dma_iova_count(DMA_IOVA_IOMMU_CALLS, 1);
	iommu_iotlb_sync(domain, gather);
}

/**
 * dma_iova_unmap_span() - clear what is linked in a span of granules
 * @dev: device
 * @domain: its domain
 * @span: from where to where; grows to the borders of entries it cut
 * @gather: what to flush afterwards
 */
void dma_iova_unmap_span(struct device *dev, struct iommu_domain *domain,
			 struct iommu_span *span,
			 struct iommu_iotlb_gather *gather)
{
	struct iommu_span asked = *span;

	dma_iova_count(DMA_IOVA_IOMMU_CALLS, 1);
	iommu_unmap_span(domain, span, gather);
	if (unlikely(span->end - span->start > asked.end - asked.start))
		dma_iova_count(DMA_IOVA_WIDENED, 1);
	debug_dma_iova_unlink(dev, span->start, span->end);
}

/**
 * dma_iova_sync_span() - make entries visible to the hardware
 * @dev: device
 * @domain: its domain
 * @span: where they are
 *
 * Return: 0, or an error of the IOMMU.
 */
int dma_iova_sync_span(struct device *dev, struct iommu_domain *domain,
		       const struct iommu_span *span)
{
	trace_dma_iova_sync(dev, span->start, span->end - span->start);
	dma_iova_count(DMA_IOVA_SYNCS, 1);
	dma_iova_count(DMA_IOVA_IOMMU_CALLS, 1);
	return iommu_sync_map(domain, span->start, span->end - span->start);
}

/**
 * dma_iova_sync_for_device() - write CPU caches back before a device that does not snoop reads
 * @dev: device
 * @phys: first byte
 * @len: bytes
 * @prot: IOMMU_* that it is linked with
 */
void dma_iova_sync_for_device(struct device *dev, phys_addr_t phys, size_t len,
			      int prot)
{
	if (dev_is_dma_coherent(dev) || prot & IOMMU_MMIO)
		return;
	arch_sync_dma_for_device(phys, len,
				 prot & IOMMU_WRITE ? DMA_BIDIRECTIONAL :
						      DMA_TO_DEVICE);
}

/**
 * dma_iova_sync_for_cpu() - drop what CPU caches hold of memory that a device wrote
 * @dev: device; nothing is done if it snoops
 * @domain: its domain
 * @start: first IOVA of the memory
 * @end: IOVA behind it
 * @dir: who wrote
 */
void dma_iova_sync_for_cpu(struct device *dev, struct iommu_domain *domain,
			   unsigned long start, unsigned long end,
			   enum dma_data_direction dir)
{
	size_t granule = dma_iova_granule(domain);
	unsigned long at, behind;
	phys_addr_t phys;

	if (dev_is_dma_coherent(dev))
		return;
	/* Exactly these bytes: the granules at the ends may be others', and dirty. */
	for (at = start; at < end; at = behind) {
		behind = min(end, ALIGN_DOWN(at, granule) + granule);
		phys = iommu_iova_to_phys(domain, at);
		if (phys && pfn_valid(PHYS_PFN(phys)) &&
		    !is_pci_p2pdma_page(pfn_to_page(PHYS_PFN(phys))))
			arch_sync_dma_for_cpu(phys, behind - at, dir);
	}
}

static int prot_of_dir(struct device *dev, enum dma_data_direction dir,
		       unsigned long attrs)
{
	int prot = 0;

	if (attrs & DMA_ATTR_MMIO)
		prot |= IOMMU_MMIO;
	else if (dev_is_dma_coherent(dev))
		prot |= IOMMU_CACHE;
	if (attrs & DMA_ATTR_PRIVILEGED)
		prot |= IOMMU_PRIV;
	if (dir == DMA_TO_DEVICE || dir == DMA_BIDIRECTIONAL)
		prot |= IOMMU_READ;
	if (dir == DMA_FROM_DEVICE || dir == DMA_BIDIRECTIONAL)
		prot |= IOMMU_WRITE;
	return prot;
}

/* Link one run; @offset and @phys are congruent modulo the granule. */
static int link_one(struct device *dev, struct iommu_domain *domain,
		    const struct dma_iova_state *state, phys_addr_t phys,
		    size_t offset, size_t len, int prot)
{
	struct iommu_map_cursor cursor = {
		.max_order = dma_iova_entry_order(state),
	};
	struct iommu_span span = dma_iova_span(domain, state, offset, len);
	struct iommu_run run = {
		.iova = span.start,
		.paddr = phys - (state->addr + offset - span.start),
		.size = span.end - span.start,
		.prot = prot,
	};
	unsigned int done;
	int ret;

	ret = iommu_map_runs(domain, &cursor, &run, 1, GFP_ATOMIC, &done);
	dma_iova_count(DMA_IOVA_IOMMU_CALLS, 1);
	if (!ret) {
		dma_iova_count(DMA_IOVA_RUNS, 1);
		dma_iova_count(DMA_IOVA_PAGES,
			       run.size >> __ffs(domain->pgsize_bitmap));
		debug_dma_iova_link(dev, span.start, span.end);
	} else {
		debug_dma_iova_link_failed(dev, span.start, span.end, ret);
	}
	return ret;
}

/* Link a part of one granule to a bounce page that holds nothing else. */
static int link_bounce_page(struct device *dev, struct iommu_domain *domain,
			    struct dma_iova_state *state, phys_addr_t phys,
			    size_t offset, size_t len,
			    enum dma_data_direction dir, unsigned long attrs)
{
	size_t granule = dma_iova_granule(domain);
	size_t pad = phys & (granule - 1);
	phys_addr_t slot;
	int prot, ret;
	u8 *page;

	if (dma_iova_fails(DMA_IOVA_SEAM_BOUNCE))
		return -ENOMEM;
	if (!is_swiotlb_active(dev)) {
		dev_warn_once(dev,
			      "must bounce, but there are no bounce buffers\n");
		return -ENOMEM;
	}
	/*
	 * For the whole granule: where in a slot a part of one lands depends on the
	 * device's min_align_mask, and here must be as in the IOVA. What lies around
	 * the part may be anybody's, red zones included; it is copied, and zeroed.
	 */
	kasan_disable_current();
	slot = swiotlb_tbl_map_single(dev, phys - pad, granule, granule - 1,
				      dir, attrs);
	kasan_enable_current();
	if (slot == (phys_addr_t)DMA_MAPPING_ERROR)
		return -ENOMEM;

	page = phys_to_virt(slot);
	memset(page, 0, pad);
	memset(page + pad + len, 0, granule - pad - len);
	prot = prot_of_dir(dev, dir, attrs);
	if (!(attrs & DMA_ATTR_SKIP_CPU_SYNC))
		dma_iova_sync_for_device(dev, slot, granule, prot);
	ret = link_one(dev, domain, state, slot + pad, offset, len, prot);
	if (ret)
		swiotlb_tbl_unmap_single(dev, slot, granule, dir,
					 attrs | DMA_ATTR_SKIP_CPU_SYNC);
	else
		state->__size |= DMA_IOVA_BOUNCED;
	return ret;
}

/**
 * struct mapping_edges - a mapping's bytes, cut at the granules that it only partly fills
 * @head: bytes in a partly filled first granule
 * @whole: bytes in whole granules
 * @tail: bytes in a partly filled last granule
 */
struct mapping_edges {
	size_t head;
	size_t whole;
	size_t tail;
};

static struct mapping_edges edges_of(struct iommu_domain *domain,
				     dma_addr_t iova, size_t size)
{
	size_t granule = dma_iova_granule(domain);
	size_t pad = iova & (granule - 1);
	struct mapping_edges edges = {};

	if (pad)
		edges.head = min(size, granule - pad);
	edges.tail = (size - edges.head) & (granule - 1);
	edges.whole = size - edges.head - edges.tail;
	return edges;
}

/*
 * Whether bounce pages would be found again: dma_iova_destroy() looks for them at the first
 * and the last byte of the range, and how much of another granule is the mapping's is not
 * kept anywhere.
 */
static bool edges_are_borders(const struct dma_iova_state *state, size_t offset,
			      size_t size, const struct mapping_edges *edges)
{
	return (!edges->head || !offset) &&
	       (!edges->tail || offset + size == dma_iova_size(state));
}

/**
 * struct bounce_edges - bounce pages that a mapping's unaligned ends went through
 * @head: bounced bytes of the first granule, 0 if none
 * @tail: bounced bytes of the last granule, 0 if none
 * @head_phys: where they are bounced
 * @tail_phys: where they are bounced
 */
struct bounce_edges {
	size_t head;
	size_t tail;
	phys_addr_t head_phys;
	phys_addr_t tail_phys;
};

static size_t find_bounce(struct device *dev, struct iommu_domain *domain,
			  dma_addr_t iova, size_t len, phys_addr_t *phys)
{
	if (!len)
		return 0;
	*phys = iommu_iova_to_phys(domain, iova);
	return *phys && swiotlb_find_pool(dev, *phys) ? len : 0;
}

static struct bounce_edges find_bounces(struct device *dev,
					struct iommu_domain *domain,
					dma_addr_t iova, size_t size)
{
	struct mapping_edges edges = edges_of(domain, iova, size);
	struct bounce_edges found = {};

	found.head =
		find_bounce(dev, domain, iova, edges.head, &found.head_phys);
	found.tail = find_bounce(dev, domain, iova + size - edges.tail,
				 edges.tail, &found.tail_phys);
	return found;
}

/* Copy a part of a granule back from its bounce page, and free that. */
static void release_bounce_page(struct device *dev, size_t granule,
				phys_addr_t phys, size_t len,
				enum dma_data_direction dir,
				unsigned long attrs)
{
	if (!len)
		return;
	if (!(attrs & DMA_ATTR_SKIP_CPU_SYNC))
		swiotlb_sync_single_for_cpu(dev, phys, len, dir);
	swiotlb_tbl_unmap_single(dev, ALIGN_DOWN(phys, granule), granule, dir,
				 attrs | DMA_ATTR_SKIP_CPU_SYNC);
}

static void unlink_range(struct device *dev, const struct dma_iova_state *state,
			 size_t offset, size_t size,
			 enum dma_data_direction dir, unsigned long attrs)
{
	struct iommu_domain *domain = iommu_get_dma_domain(dev);
	struct iommu_span span = dma_iova_span(domain, state, offset, size);
	struct iommu_span asked = span;
	struct bounce_edges bounces = {};
	struct iommu_iotlb_gather gather;

	if (unlikely(state->__size & DMA_IOVA_BOUNCED))
		bounces = find_bounces(dev, domain, state->addr + offset, size);
	if (!(attrs & (DMA_ATTR_SKIP_CPU_SYNC | DMA_ATTR_MMIO)))
		dma_iova_sync_for_cpu(dev, domain, state->addr + offset,
				      state->addr + offset + size, dir);

	iommu_iotlb_gather_init(&gather);
	dma_iova_unmap_span(dev, domain, &span, &gather);
	dma_iova_flush(domain, &gather);
	dma_iova_count(DMA_IOVA_UNLINKS, 1);
	trace_dma_iova_unlink(dev, span.start, span.end - span.start);
	dev_WARN_ONCE(dev, span.start != asked.start || span.end != asked.end,
		      "unlinked a part of an entry: all of it is gone\n");
	release_bounce_page(dev, dma_iova_granule(domain), bounces.head_phys,
			    bounces.head, dir, attrs);
	release_bounce_page(dev, dma_iova_granule(domain), bounces.tail_phys,
			    bounces.tail, dir, attrs);
}

static int link_bounced(struct device *dev, struct iommu_domain *domain,
			struct dma_iova_state *state, phys_addr_t phys,
			size_t offset, const struct mapping_edges *edges,
			enum dma_data_direction dir, unsigned long attrs)
{
	u64 bounced = state->__size & DMA_IOVA_BOUNCED;
	int prot = prot_of_dir(dev, dir, attrs);
	size_t linked = 0;
	int ret;

	if (edges->head) {
		ret = link_bounce_page(dev, domain, state, phys, offset,
				       edges->head, dir, attrs);
		if (ret)
			return ret;
		linked = edges->head;
	}
	if (edges->whole) {
		if (!(attrs & DMA_ATTR_SKIP_CPU_SYNC))
			dma_iova_sync_for_device(dev, phys + linked,
						 edges->whole, prot);
		ret = link_one(dev, domain, state, phys + linked,
			       offset + linked, edges->whole, prot);
		if (ret)
			goto err_unlink;
		linked += edges->whole;
	}
	if (edges->tail) {
		ret = link_bounce_page(dev, domain, state, phys + linked,
				       offset + linked, edges->tail, dir,
				       attrs);
		if (ret)
			goto err_unlink;
	}
	return 0;

err_unlink:
	if (linked)
		unlink_range(dev, state, offset, linked, dir,
			     attrs | DMA_ATTR_SKIP_CPU_SYNC);
	state->__size &= ~DMA_IOVA_BOUNCED | bounced;
	return ret;
}

/**
 * dma_iova_link() - link one run
 * @dev: device
 * @state: the range
 * @phys: physical address of the first byte
 * @offset: where in the range; congruent to @phys modulo the granule
 * @size: bytes
 * @dir: who writes
 * @attrs: DMA_ATTR_*
 *
 * Not visible to the device before dma_iova_sync(). A device that must bounce gets bounce
 * pages at unaligned ends, which must be the range's first or last byte; unlink with the
 * same bounds, or destroy.
 *
 * Context: any.
 * Return: 0 or -EEXIST, -ENOMEM, -EINVAL; then nothing of it is linked.
 */
int dma_iova_link(struct device *dev, struct dma_iova_state *state,
		  phys_addr_t phys, size_t offset, size_t size,
		  enum dma_data_direction dir, unsigned long attrs)
{
	struct iommu_domain *domain = iommu_get_dma_domain(dev);
	int prot = prot_of_dir(dev, dir, attrs);
	struct mapping_edges edges;
	int ret;

	if (WARN_ON_ONCE(!dma_iova_within(state, offset, size)) ||
	    WARN_ON_ONCE((state->addr + offset - phys) &
			 (dma_iova_granule(domain) - 1)))
		return -EINVAL;

	if (unlikely(dma_iova_must_bounce(dev) ||
		     dma_kmalloc_needs_bounce(dev, size, dir)) &&
	    !(attrs & DMA_ATTR_MMIO)) {
		edges = edges_of(domain, state->addr + offset, size);
		if (!edges_are_borders(state, offset, size, &edges))
			return -EINVAL;
		ret = link_bounced(dev, domain, state, phys, offset, &edges,
				   dir, attrs);
	} else {
		if (!(attrs & DMA_ATTR_SKIP_CPU_SYNC))
			dma_iova_sync_for_device(dev, phys, size, prot);
		ret = link_one(dev, domain, state, phys, offset, size, prot);
	}
	dma_iova_count(DMA_IOVA_LINKS, 1);
	trace_dma_iova_link(dev, state->addr + offset, ret ? 0 : size, !ret,
			    ret);
	return ret;
}
EXPORT_SYMBOL_GPL(dma_iova_link);

/**
 * dma_iova_sync() - make what was linked visible to the device
 * @dev: device
 * @state: the range
 * @offset: where, bytes
 * @size: bytes
 *
 * Context: any.
 * Return: 0, or an error of the IOMMU: unlink then.
 */
int dma_iova_sync(struct device *dev, struct dma_iova_state *state,
		  size_t offset, size_t size)
{
	struct iommu_domain *domain = iommu_get_dma_domain(dev);
	struct iommu_span span;

	if (WARN_ON_ONCE(!dma_iova_within(state, offset, size)))
		return -EINVAL;
	span = dma_iova_span(domain, state, offset, size);
	return dma_iova_sync_span(dev, domain, &span);
}
EXPORT_SYMBOL_GPL(dma_iova_sync);

/**
 * dma_iova_unlink() - unlink everything between two offsets
 * @dev: device
 * @state: the range
 * @offset: from where, bytes
 * @size: bytes
 * @dir: as linked
 * @attrs: as linked
 *
 * Holes are fine. On return the device cannot reach the pages. A part of an entry larger
 * than a granule takes the whole entry along and warns: who means that uses
 * dma_iova_unlink_runs().
 *
 * Context: any.
 */
void dma_iova_unlink(struct device *dev, struct dma_iova_state *state,
		     size_t offset, size_t size, enum dma_data_direction dir,
		     unsigned long attrs)
{
	if (WARN_ON_ONCE(!dma_iova_within(state, offset, size)))
		return;
	unlink_range(dev, state, offset, size, dir, attrs);
}
EXPORT_SYMBOL_GPL(dma_iova_unlink);

/* Unlink and free together, leaving the flush to the domain's queue. */
static void destroy_lazily(struct device *dev, struct iommu_domain *domain,
			   const struct dma_iova_state *state,
			   size_t mapped_len, enum dma_data_direction dir,
			   unsigned long attrs)
{
	struct iommu_span all =
		dma_iova_span(domain, state, 0, dma_iova_size(state));
	struct iommu_span span = dma_iova_span(domain, state, 0, mapped_len);
	struct iommu_iotlb_gather gather;

	if (!(attrs & (DMA_ATTR_SKIP_CPU_SYNC | DMA_ATTR_MMIO)))
		dma_iova_sync_for_cpu(dev, domain, state->addr,
				      state->addr + mapped_len, dir);
	iommu_iotlb_gather_init(&gather);
	gather.queued = true;
	dma_iova_unmap_span(dev, domain, &span, &gather);
	dma_iova_count(DMA_IOVA_UNLINKS, 1);
	dma_iova_count(DMA_IOVA_FREES, 1);
	trace_dma_iova_unlink(dev, span.start, span.end - span.start);
	trace_dma_iova_free(dev, state->addr, dma_iova_size(state));
	debug_dma_iova_free(dev, state);
	iommu_dma_free_iova(domain->iova_cookie, all.start, all.end - all.start,
			    &gather);
}

/**
 * dma_iova_destroy() - unlink the first bytes of a range and give it back
 * @dev: device
 * @state: the range; zeroed
 * @mapped_len: bytes from its start that may be linked, all others are not; 0 for none
 * @dir: as linked
 * @attrs: as linked
 *
 * In lazy mode the IOTLB flush of a range from dma_iova_try_alloc() is left to the
 * domain's flush queue: until then the device may still reach the pages, as after
 * dma_unmap_page().
 *
 * Context: any, but sleeps for a range from dma_iova_reserve().
 */
void dma_iova_destroy(struct device *dev, struct dma_iova_state *state,
		      size_t mapped_len, enum dma_data_direction dir,
		      unsigned long attrs)
{
	struct iommu_domain *domain = iommu_get_dma_domain(dev);

	if (mapped_len && WARN_ON_ONCE(mapped_len > dma_iova_size(state)))
		mapped_len = dma_iova_size(state);

	if (mapped_len && iommu_dma_lazy(domain) &&
	    !(state->__size & (DMA_IOVA_ORDER | DMA_IOVA_BOUNCED))) {
		destroy_lazily(dev, domain, state, mapped_len, dir, attrs);
		*state = (struct dma_iova_state){};
		return;
	}
	if (mapped_len)
		unlink_range(dev, state, 0, mapped_len, dir, attrs);
	dma_iova_free(dev, state);
}
EXPORT_SYMBOL_GPL(dma_iova_destroy);
