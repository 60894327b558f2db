// SPDX-License-Identifier: GPL-2.0
/*
 * Copyright (c) 2026 The Twostep authors
 *
 * Two-step DMA ranges behind an IOMMU: reserve and free. The model, the invariants and the
 * locking are in linux/dma-iova.h.
 *
 * There are two kinds of ranges. One mapping's range (dma_iova_try_alloc()) is short-lived
 * and usually small; it comes from the domain's allocator with its per-CPU caches. A range
 * of dma_iova_reserve() lives long, may be huge, and lies congruent to an address; it comes
 * from the domain's window (dma-iova-window.c), or, where a device does not reach the
 * window or it is full, uncached from the domain's allocator.
 */

#include <linux/dma-direct.h>
#include <linux/dma-map-ops.h>
#include <linux/export.h>
#include <linux/iommu-dma.h>
#include <linux/iommu.h>
#include <linux/iova.h>

#include "dma-iova.h"

#define CREATE_TRACE_POINTS
#include <trace/events/dma_iova.h>

static dma_addr_t last_reachable(struct device *dev,
				 struct iommu_domain *domain)
{
	u64 last = min_not_zero(dma_get_mask(dev), dev->bus_dma_limit);

	if (domain->geometry.force_aperture)
		last = min_t(u64, last, domain->geometry.aperture_end);
	/* A range's end must be an address as well. */
	return min_t(u64, last, U64_MAX - DMA_IOVA_BLOCK);
}

/**
 * dma_iova_try_alloc() - reserve a range for one mapping of some memory
 * @dev: device
 * @state: out: the range
 * @phys: physical address of the first byte; only its offset in a granule matters
 * @size: bytes
 *
 * Context: any.
 * Return: false if the device is not behind an IOMMU or no IOVA is left; the caller then
 * maps with dma_map_phys().
 */
bool dma_iova_try_alloc(struct device *dev, struct dma_iova_state *state,
			phys_addr_t phys, size_t size)
{
	struct iommu_domain *domain;
	size_t offset, granule;
	dma_addr_t iova;

	*state = (struct dma_iova_state){};
	if (!use_dma_iommu(dev))
		return false;
	domain = iommu_get_dma_domain(dev);
	granule = dma_iova_granule(domain);
	offset = phys & (granule - 1);
	if (WARN_ON_ONCE(!size || size > DMA_IOVA_SIZE - granule))
		return false;
	if (dma_get_min_align_mask(dev) >= granule ||
	    iommu_dma_attach(dev, domain) ||
	    dma_iova_fails(DMA_IOVA_SEAM_RESERVE))
		return false;

	iova = iommu_dma_alloc_iova(domain, ALIGN(offset + size, granule),
				    dma_get_mask(dev), dev);
	if (!iova)
		return false;

	state->addr = iova + offset;
	state->__size = size;
	dma_iova_count(DMA_IOVA_RESERVES, 1);
	trace_dma_iova_reserve(dev, state->addr, size);
	debug_dma_iova_reserve(dev, state);
	return true;
}
EXPORT_SYMBOL_GPL(dma_iova_try_alloc);

/* A place outside the window; to be congruent it takes up to a modulus more IOVA. */
static dma_addr_t alloc_congruent(struct iommu_domain *domain, u64 like,
				  size_t modulo, size_t size, dma_addr_t last)
{
	struct iova_domain *iovad = iommu_dma_iovad(domain);
	unsigned long shift = iova_shift(iovad);
	struct iova *iova;
	dma_addr_t start;

	size += (like & iova_mask(iovad)) + modulo - iovad->granule;
	iova = alloc_iova(iovad, iova_align(iovad, size) >> shift,
			  last >> shift, false);
	if (!iova)
		return 0;
	start = iova_dma_addr(iovad, iova);
	return start + ((like - start) & (modulo - 1));
}

/**
 * dma_iova_reserve() - reserve a range that lives long, congruent to an address
 * @dev: device
 * @state: out: the range
 * @like: address whose remainder modulo @modulo the range's first IOVA shares, for example
 *	the user address of the memory
 * @modulo: a power of two, at least the granule: the largest entry that will be used. With
 *	2 MiB, a linked block of 2 MiB that is aligned in memory takes one entry
 * @size: bytes; below 2^55
 *
 * No page table is touched. The cost does not depend on @size, and on the number of live
 * ranges logarithmically, as long as the device reaches the domain's window and that has
 * room; otherwise the domain's allocator searches linearly.
 *
 * Context: sleeps. Freeing the range sleeps, too.
 * Return: 0; -ENODEV if the device maps directly, without an IOMMU; -EOPNOTSUPP if it must
 * bounce, or does not snoop the CPU's caches: memory that both use all the time has no moment
 * at which it changes hands; -ENOMEM if no IOVA that it reaches is left; -EINVAL.
 */
int dma_iova_reserve(struct device *dev, struct dma_iova_state *state, u64 like,
		     size_t modulo, size_t size)
{
	struct dma_iova_window *window;
	struct iommu_domain *domain;
	u64 flags = 0;

	might_sleep();
	*state = (struct dma_iova_state){};
	if (!use_dma_iommu(dev))
		return dma_iova_no_range(dev);
	if (dma_iova_must_bounce(dev) || !dev_is_dma_coherent(dev))
		return -EOPNOTSUPP;
	domain = iommu_get_dma_domain(dev);
	if (!size || size >> 55 || !is_power_of_2(modulo) ||
	    modulo < dma_iova_granule(domain) || modulo >> 55)
		return -EINVAL;
	if (iommu_dma_attach(dev, domain))
		return -ENODEV;
	if (dma_iova_fails(DMA_IOVA_SEAM_RESERVE))
		return -ENOMEM;

	window = iommu_dma_window(domain);
	if (window)
		state->addr =
			dma_iova_window_alloc(window, like, modulo, size,
					      last_reachable(dev, domain));
	if (state->addr)
		flags = DMA_IOVA_WINDOW;
	else
		state->addr = alloc_congruent(domain, like, modulo, size,
					      last_reachable(dev, domain));
	if (!state->addr)
		return -ENOMEM;

	state->__size = size | flags |
			(u64)__ffs(modulo) << DMA_IOVA_ORDER_SHIFT;
	dma_iova_count(DMA_IOVA_RESERVES, 1);
	trace_dma_iova_reserve(dev, state->addr, size);
	debug_dma_iova_reserve(dev, state);
	return 0;
}
EXPORT_SYMBOL_GPL(dma_iova_reserve);

/* Give back a long-lived range, and the tables that only it used. */
static void free_long(struct iommu_domain *domain,
		      const struct dma_iova_state *state)
{
	size_t size = dma_iova_size(state);
	struct iommu_iotlb_gather gather;
	struct iommu_span span;

	might_sleep();
	if (!(state->__size & DMA_IOVA_WINDOW)) {
		free_iova(iommu_dma_iovad(domain),
			  iova_pfn(iommu_dma_iovad(domain), state->addr));
		return;
	}
	/* Who does not unmap spans itself has no tables that would stay. */
	if (domain->ops->run_ops && domain->ops->run_ops->unmap_span) {
		span.start = ALIGN_DOWN(state->addr, DMA_IOVA_BLOCK);
		span.end = ALIGN(state->addr + size, DMA_IOVA_BLOCK);
		iommu_iotlb_gather_init(&gather);
		iommu_unmap_span(domain, &span, &gather);
		dma_iova_count(DMA_IOVA_IOMMU_CALLS, 1);
		dma_iova_flush(domain, &gather);
	}
	dma_iova_window_free(iommu_dma_window(domain), state->addr);
}

/**
 * dma_iova_free() - give a range back
 * @dev: device
 * @state: the range, in which nothing is linked any more; zeroed
 *
 * Context: any, but sleeps for a range from dma_iova_reserve().
 */
void dma_iova_free(struct device *dev, struct dma_iova_state *state)
{
	struct iommu_domain *domain;
	struct iommu_span span;

	if (WARN_ON_ONCE(!dma_use_iova(state)))
		return;
	domain = iommu_get_dma_domain(dev);
	debug_dma_iova_free(dev, state);
	trace_dma_iova_free(dev, state->addr, dma_iova_size(state));
	dma_iova_count(DMA_IOVA_FREES, 1);
	if (dma_iova_lives_long(state)) {
		free_long(domain, state);
	} else {
		span = dma_iova_span(domain, state, 0, dma_iova_size(state));
		iommu_dma_free_iova(domain->iova_cookie, span.start,
				    span.end - span.start, NULL);
	}
	*state = (struct dma_iova_state){};
}
EXPORT_SYMBOL_GPL(dma_iova_free);
