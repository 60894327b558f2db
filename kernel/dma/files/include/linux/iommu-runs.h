/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Copyright (c) 2026 The Twostep authors
 *
 * Mapping and unmapping by runs: the optional operations of a paging IOMMU domain that the
 * two-step DMA core (linux/dma-iova.h) uses.
 *
 * A run is contiguous in IOVA and physically. iommu_map_runs() hands a batch of runs to the
 * driver, with a cursor in which the driver keeps the leaf table it last wrote, so that
 * scattered pages cost one walk from the root per leaf table instead of one per page.
 *
 * The cursor stays valid while the caller owns part of the IOVA span of the leaf table: a
 * driver frees a table only when an unmap covers its whole span, and no other user of the
 * domain may unmap what the caller owns.
 *
 * A driver that does not map runs is served through map_pages() and unmap_pages() with
 * the smallest page size: its tables then never hold an entry larger than a granule, and
 * a driver that remembers requests instead of tables (virtio) remembers none that crosses
 * 2 MiB, which bounds how much an unmap inside it can widen.
 *
 * Locking: none. Callers own the IOVA ranges they pass; ranges of concurrent callers are
 * disjoint, and drivers install shared upper tables with compare-and-exchange.
 */
#ifndef _LINUX_IOMMU_RUNS_H
#define _LINUX_IOMMU_RUNS_H

#include <linux/gfp_types.h>
#include <linux/types.h>

struct iommu_domain;
struct iommu_iotlb_gather;

/**
 * struct iommu_run - one run to map
 * @iova: first IOVA, aligned to the granule
 * @paddr: first physical address, aligned to the granule
 * @size: bytes, a multiple of the granule, more than 0
 * @prot: IOMMU_READ and friends
 */
struct iommu_run {
	unsigned long iova;
	phys_addr_t paddr;
	size_t size;
	int prot;
};

/**
 * struct iommu_map_cursor - where the last run of a series was written
 * @max_order: log2 of the largest entry that may be written, in bytes; 0: no limit
 * @leaf_iova: first IOVA of the leaf table's span; meaningful if @leaf is not NULL
 * @leaf: driver's pointer to the leaf table, NULL at first
 *
 * The caller zeroes it and sets @max_order before the first call.
 */
struct iommu_map_cursor {
	unsigned int max_order;
	unsigned long leaf_iova;
	void *leaf;
};

/**
 * struct iommu_map_count - what a call mapped
 * @runs: runs, by which pages that continue one another count once
 * @pages: pages
 */
struct iommu_map_count {
	size_t runs;
	size_t pages;
};

/**
 * struct iommu_span - IOVAs that an unmap cleared
 * @start: first IOVA
 * @end: first IOVA behind it
 */
struct iommu_span {
	unsigned long start;
	unsigned long end;
};

/**
 * struct iommu_run_ops - a domain's operations on runs: @map_runs and @unmap_span of a
 *	driver with tables, or @find_mapped of one that remembers requests
 * @map_runs: map @nr runs, which rise in IOVA and are disjoint, stopping at the
 *	first that fails, of which nothing stays mapped. Sets @done to the runs
 *	mapped. Does not make them visible (iotlb_sync_map). -EEXIST if something
 *	is mapped there, -ENOMEM without a table, -EINVAL outside the domain's
 *	addresses
 * @map_words: optional: map single pages in the leaf table that the cursor
 *	remembers, word i of @words (linux/pfn-tag.h) at @iova and i pages. Passes
 *	over words that are not linkable, sets MAPPED in the others, ends where
 *	the table ends or an entry is taken, and says how many words it got
 *	through, adding to @count. Zero if the cursor remembers another table
 * @unmap_span: clear all that is mapped in [span->start, span->end); absent
 *	entries are skipped. An entry that lies partly inside is cleared whole,
 *	and @span grows to cover it. Adds to @gather what to flush, nothing if
 *	nothing was mapped; never flushes for it
 * @find_mapped: find the first stretch of requests without a hole of which something
 *	lies in @span: from the start of its first request to the end of the last one
 *	that begins in @span. Returns whether there is one
 */
struct iommu_run_ops {
	int (*map_runs)(struct iommu_domain *domain,
			struct iommu_map_cursor *cursor,
			const struct iommu_run *runs, unsigned int nr,
			gfp_t gfp, unsigned int *done);
	size_t (*map_words)(struct iommu_domain *domain,
			    struct iommu_map_cursor *cursor, unsigned long iova,
			    u64 *words, size_t nr,
			    struct iommu_map_count *count);
	void (*unmap_span)(struct iommu_domain *domain, struct iommu_span *span,
			   struct iommu_iotlb_gather *gather);
	bool (*find_mapped)(struct iommu_domain *domain,
			    const struct iommu_span *span,
			    struct iommu_span *found);
};

int iommu_map_runs(struct iommu_domain *domain, struct iommu_map_cursor *cursor,
		   const struct iommu_run *runs, unsigned int nr, gfp_t gfp,
		   unsigned int *done);
bool iommu_takes_words(struct iommu_domain *domain);
size_t iommu_map_words(struct iommu_domain *domain,
		       struct iommu_map_cursor *cursor, unsigned long iova,
		       u64 *words, size_t nr, struct iommu_map_count *count);
void iommu_unmap_span(struct iommu_domain *domain, struct iommu_span *span,
		      struct iommu_iotlb_gather *gather);
int iommu_sync_map(struct iommu_domain *domain, unsigned long iova,
		   size_t size);

#ifdef CONFIG_DMA_IOVA
bool iommu_remembers_requests(struct iommu_domain *domain);
#else
static inline bool iommu_remembers_requests(struct iommu_domain *domain)
{
	return false;
}
#endif

#endif /* _LINUX_IOMMU_RUNS_H */
