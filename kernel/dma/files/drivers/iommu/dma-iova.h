/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Copyright (c) 2026 The Twostep authors
 *
 * What the parts of the two-step DMA core share: the window of large ranges, the counters,
 * the fault seams, the hooks of dma-debug. For drivers there is linux/dma-iova.h.
 */
#ifndef _DMA_IOVA_PRIVATE_H
#define _DMA_IOVA_PRIVATE_H

#include <linux/align.h>
#include <linux/bitfield.h>
#include <linux/dma-iova.h>
#include <linux/iommu.h>
#include <linux/iommu-runs.h>
#include <linux/pci.h>
#include <linux/percpu.h>
#include <linux/sizes.h>
#include <linux/types.h>

struct dma_iova_window;
struct iommu_dma_cookie;
struct iova_domain;

/*
 * Bytes of IOVA below one leaf I/O page table (of 4 KiB granules). The window hands out
 * whole blocks, and no entry of a driver without tables crosses one.
 */
#define DMA_IOVA_BLOCK ((size_t)SZ_2M)

/* dma-iova-window.c and iommu-runs.c: what dma-iommu.c calls */
#ifdef CONFIG_DMA_IOVA
struct dma_iova_window *dma_iova_window_create(struct iova_domain *iovad,
					       dma_addr_t aperture_last);
void dma_iova_window_destroy(struct dma_iova_window *window);
int iommu_map_run(struct iommu_domain *domain, unsigned long iova,
		  phys_addr_t paddr, size_t size, int prot, gfp_t gfp);
#else
static inline struct dma_iova_window *
dma_iova_window_create(struct iova_domain *iovad, dma_addr_t aperture_last)
{
	return NULL;
}

static inline void dma_iova_window_destroy(struct dma_iova_window *window)
{
}

static inline int iommu_map_run(struct iommu_domain *domain, unsigned long iova,
				phys_addr_t paddr, size_t size, int prot,
				gfp_t gfp)
{
	return iommu_map(domain, iova, paddr, size, prot, gfp);
}
#endif
dma_addr_t dma_iova_window_alloc(struct dma_iova_window *window, u64 like,
				 size_t modulo, size_t size, dma_addr_t last);
void dma_iova_window_free(struct dma_iova_window *window, dma_addr_t addr);

/**
 * enum dma_iova_event - what is counted, per CPU; read in debugfs dma_iova/counters
 * @DMA_IOVA_RESERVES: ranges reserved
 * @DMA_IOVA_FREES: ranges freed; equals reserves when nobody holds one
 * @DMA_IOVA_LINKS: calls that link
 * @DMA_IOVA_RUNS: runs linked
 * @DMA_IOVA_PAGES: granules linked
 * @DMA_IOVA_UNLINKS: calls that unlink
 * @DMA_IOVA_IOMMU_CALLS: calls of an IOMMU driver to map, unmap, sync or flush
 * @DMA_IOVA_SYNCS: of these, to make new entries visible
 * @DMA_IOVA_FLUSHES: of these, IOTLB flushes waited for
 * @DMA_IOVA_WIDENED: unlinks that took more than they were asked for
 * @DMA_IOVA_NR_EVENTS: how many there are
 */
enum dma_iova_event {
	DMA_IOVA_RESERVES,
	DMA_IOVA_FREES,
	DMA_IOVA_LINKS,
	DMA_IOVA_RUNS,
	DMA_IOVA_PAGES,
	DMA_IOVA_UNLINKS,
	DMA_IOVA_IOMMU_CALLS,
	DMA_IOVA_SYNCS,
	DMA_IOVA_FLUSHES,
	DMA_IOVA_WIDENED,
	DMA_IOVA_NR_EVENTS,
};

struct dma_iova_counters {
	u64 events[DMA_IOVA_NR_EVENTS];
};

DECLARE_PER_CPU(struct dma_iova_counters, dma_iova_counters);

static inline void dma_iova_count(enum dma_iova_event event, u64 n)
{
	this_cpu_add(dma_iova_counters.events[event], n);
}

u64 dma_iova_counted(enum dma_iova_event event);

/**
 * enum dma_iova_seam - the steps that can be made to fail (debugfs fail_dma_iova)
 * @DMA_IOVA_SEAM_RESERVE: no IOVA is left
 * @DMA_IOVA_SEAM_WINDOW: the window cannot be made or has no room
 * @DMA_IOVA_SEAM_TABLE: no memory for an I/O page table
 * @DMA_IOVA_SEAM_RUN: the driver refuses a run, or a request of several for one
 * @DMA_IOVA_SEAM_SYNC: new entries cannot be made visible
 * @DMA_IOVA_SEAM_BOUNCE: no bounce buffer is left
 */
enum dma_iova_seam {
	DMA_IOVA_SEAM_RESERVE,
	DMA_IOVA_SEAM_WINDOW,
	DMA_IOVA_SEAM_TABLE,
	DMA_IOVA_SEAM_RUN,
	DMA_IOVA_SEAM_SYNC,
	DMA_IOVA_SEAM_BOUNCE,
};

#ifdef CONFIG_FAULT_INJECTION
bool dma_iova_fails(enum dma_iova_seam seam);
#else
static inline bool dma_iova_fails(enum dma_iova_seam seam)
{
	return false;
}
#endif

/**
 * enum dma_iova_report - what dma-debug reports of two-step ranges
 * @DMA_IOVA_LEAKED: a driver went and left a range
 * @DMA_IOVA_LINKED_TWICE: a link over what is linked
 * @DMA_IOVA_OUTSIDE: IOVAs of no range that this device reserved
 * @DMA_IOVA_FREED_LINKED: a range given back with something linked in it
 * @DMA_IOVA_NR_REPORTS: how many there are
 */
enum dma_iova_report {
	DMA_IOVA_LEAKED,
	DMA_IOVA_LINKED_TWICE,
	DMA_IOVA_OUTSIDE,
	DMA_IOVA_FREED_LINKED,
	DMA_IOVA_NR_REPORTS,
};

#ifdef CONFIG_DMA_IOVA_DEBUG
u64 debug_dma_iova_reported(enum dma_iova_report what);
void debug_dma_iova_quiet(bool quiet);
void debug_dma_iova_reserve(struct device *dev,
			    const struct dma_iova_state *state);
void debug_dma_iova_free(struct device *dev,
			 const struct dma_iova_state *state);
void debug_dma_iova_link(struct device *dev, unsigned long start,
			 unsigned long end);
void debug_dma_iova_link_failed(struct device *dev, unsigned long start,
				unsigned long end, int error);
void debug_dma_iova_unlink(struct device *dev, unsigned long start,
			   unsigned long end);
#else
static inline u64 debug_dma_iova_reported(enum dma_iova_report what)
{
	return 0;
}

static inline void debug_dma_iova_quiet(bool quiet)
{
}

static inline void debug_dma_iova_reserve(struct device *dev,
					  const struct dma_iova_state *state)
{
}

static inline void debug_dma_iova_free(struct device *dev,
				       const struct dma_iova_state *state)
{
}

static inline void debug_dma_iova_link(struct device *dev, unsigned long start,
				       unsigned long end)
{
}

static inline void debug_dma_iova_link_failed(struct device *dev,
					      unsigned long start,
					      unsigned long end, int error)
{
}

static inline void debug_dma_iova_unlink(struct device *dev,
					 unsigned long start, unsigned long end)
{
}
#endif

/* dma-iommu.c: a DMA domain and its IOVAs. */
dma_addr_t iommu_dma_alloc_iova(struct iommu_domain *domain, size_t size,
				u64 dma_limit, struct device *dev);
void iommu_dma_free_iova(struct iommu_dma_cookie *cookie, dma_addr_t iova,
			 size_t size, struct iommu_iotlb_gather *gather);
int iommu_dma_attach(struct device *dev, struct iommu_domain *domain);
bool iommu_dma_lazy(struct iommu_domain *domain);
struct iova_domain *iommu_dma_iovad(struct iommu_domain *domain);
struct dma_iova_window *iommu_dma_window(struct iommu_domain *domain);

/* The IOMMU's smallest page in bytes. */
static inline size_t dma_iova_granule(struct iommu_domain *domain)
{
	return 1UL << __ffs(domain->pgsize_bitmap);
}

/* Whether a device must not see the bytes around a mapping in its granules. */
static inline bool dma_iova_must_bounce(struct device *dev)
{
	return IS_ENABLED(CONFIG_SWIOTLB) && dev_is_pci(dev) &&
	       to_pci_dev(dev)->untrusted;
}

/* Whether a range came from dma_iova_reserve(). */
static inline bool dma_iova_lives_long(const struct dma_iova_state *state)
{
	return state->__size & DMA_IOVA_ORDER;
}

/* log2 of the largest entry of a range, 0 if any will do. */
static inline unsigned int
dma_iova_entry_order(const struct dma_iova_state *state)
{
	return FIELD_GET(DMA_IOVA_ORDER, state->__size);
}

/* The granules that bytes of a range lie in. */
static inline struct iommu_span
dma_iova_span(struct iommu_domain *domain, const struct dma_iova_state *state,
	      size_t offset, size_t len)
{
	size_t granule = dma_iova_granule(domain);

	return (struct iommu_span){
		.start = ALIGN_DOWN(state->addr + offset, granule),
		.end = ALIGN(state->addr + offset + len, granule),
	};
}

static inline bool dma_iova_within(const struct dma_iova_state *state,
				   size_t offset, size_t len)
{
	size_t size = dma_iova_size(state);

	return len && offset < size && len <= size - offset;
}

/* dma-iova-link.c */
void dma_iova_flush(struct iommu_domain *domain,
		    struct iommu_iotlb_gather *gather);
void dma_iova_unmap_span(struct device *dev, struct iommu_domain *domain,
			 struct iommu_span *span,
			 struct iommu_iotlb_gather *gather);
int dma_iova_sync_span(struct device *dev, struct iommu_domain *domain,
		       const struct iommu_span *span);
void dma_iova_sync_for_device(struct device *dev, phys_addr_t phys, size_t len,
			      int prot);
void dma_iova_sync_for_cpu(struct device *dev, struct iommu_domain *domain,
			   unsigned long start, unsigned long end,
			   enum dma_data_direction dir);

#endif /* _DMA_IOVA_PRIVATE_H */
