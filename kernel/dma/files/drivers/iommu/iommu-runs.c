// SPDX-License-Identifier: GPL-2.0
/*
 * Copyright (c) 2026 The Twostep authors
 *
 * Mapping and unmapping by runs, for any IOMMU driver (linux/iommu-runs.h).
 *
 * A driver that maps runs is called directly. For the others this file keeps the same
 * promises with map_pages() and unmap_pages():
 *
 *  - Only the smallest page size is passed, so a driver with tables has no entry larger
 *    than a granule, and clearing any span of granules is exact.
 *  - virtio-iommu has no tables: it remembers requests, cannot cut one, and unmaps only
 *    spans without a hole. A run becomes one request per 2 MiB block that it touches. To
 *    unmap, the driver says where its requests are (find_mapped): whole stretches of them
 *    go, so a span that ends inside a request grows to its border.
 *  - Requests are queued by the driver and waited for by the caller's one sync or flush.
 */

#include <linux/export.h>
#include <linux/iommu.h>
#include <linux/iommu-runs.h>
#include <trace/events/iommu.h>

#include "dma-iova.h"

static size_t granule_of(struct iommu_domain *domain)
{
	return 1UL << __ffs(domain->pgsize_bitmap);
}

static bool mapped(struct iommu_domain *domain, unsigned long iova)
{
	return domain->ops->iova_to_phys(domain, iova);
}

/* The first stretch that is mapped in a span; false if nothing is. */
static bool find_mapped(struct iommu_domain *domain,
			const struct iommu_span *span, struct iommu_span *found)
{
	const struct iommu_run_ops *ops = domain->ops->run_ops;
	size_t granule = granule_of(domain);

	if (ops && ops->find_mapped)
		return ops->find_mapped(domain, span, found);

	found->start = span->start;
	while (found->start < span->end && !mapped(domain, found->start))
		found->start += granule;
	found->end = found->start;
	while (found->end < span->end && mapped(domain, found->end))
		found->end += granule;
	return found->start < found->end;
}

static bool any_mapped(struct iommu_domain *domain, const struct iommu_run *run)
{
	struct iommu_span span = { run->iova, run->iova + run->size }, found;

	return find_mapped(domain, &span, &found);
}

/* Map one run wholly or not at all. */
static int map_run_by_pages(struct iommu_domain *domain,
			    const struct iommu_run *run, gfp_t gfp)
{
	size_t granule = granule_of(domain);
	struct iommu_iotlb_gather gather;
	struct iommu_span undo;
	size_t at, len, got;
	int ret;

	/* Physical 0 is what iova_to_phys() says of a hole: it would never be found again. */
	if (!run->paddr)
		return -EINVAL;
	if (any_mapped(domain, run))
		return -EEXIST;

	for (at = 0; at < run->size; at += got) {
		got = 0;
		ret = -ENOMEM;
		if (dma_iova_fails(DMA_IOVA_SEAM_RUN))
			goto err_unmap;
		len = min(run->size - at,
			  DMA_IOVA_BLOCK - (run->iova + at) % DMA_IOVA_BLOCK);
		ret = domain->ops->map_pages(domain, run->iova + at,
					     run->paddr + at, granule,
					     len / granule, run->prot, gfp,
					     &got);
		if (!ret && !got)
			ret = -EIO;
		if (ret) {
			at += got;
			goto err_unmap;
		}
	}
	return 0;

err_unmap:
	if (at) {
		undo.start = run->iova;
		undo.end = run->iova + at;
		iommu_iotlb_gather_init(&gather);
		iommu_unmap_span(domain, &undo, &gather);
		dma_iova_flush(domain, &gather);
	}
	return ret;
}

static int map_runs_by_pages(struct iommu_domain *domain,
			     const struct iommu_run *runs, unsigned int nr,
			     gfp_t gfp, unsigned int *done)
{
	int ret;

	for (*done = 0; *done < nr; (*done)++) {
		ret = map_run_by_pages(domain, &runs[*done], gfp);
		if (ret)
			return ret;
	}
	return 0;
}

/**
 * iommu_map_runs() - map runs in order
 * @domain: a paging domain
 * @cursor: where the series of calls that this one belongs to stands
 * @runs: the runs, rising in IOVA and disjoint
 * @nr: how many
 * @gfp: how to allocate tables
 * @done: out: how many are mapped
 *
 * Stops at the first run that fails, of which nothing stays mapped. The entries are
 * visible to the hardware only after iommu_sync_map().
 *
 * Context: as @gfp allows. The caller owns the IOVAs.
 * Return: 0, -EEXIST if something is mapped there, -ENOMEM, -EINVAL for rights or
 * addresses that the domain has not.
 */
int iommu_map_runs(struct iommu_domain *domain, struct iommu_map_cursor *cursor,
		   const struct iommu_run *runs, unsigned int nr, gfp_t gfp,
		   unsigned int *done)
{
	const struct iommu_run_ops *ops = domain->ops->run_ops;
	unsigned int i;
	int ret;

	might_sleep_if(gfpflags_allow_blocking(gfp));
	if (likely(ops && ops->map_runs))
		ret = ops->map_runs(domain, cursor, runs, nr, gfp, done);
	else
		ret = map_runs_by_pages(domain, runs, nr, gfp, done);
	if (trace_map_enabled())
		for (i = 0; i < *done; i++)
			trace_map(runs[i].iova, runs[i].paddr, runs[i].size);
	return ret;
}

/**
 * iommu_takes_words() - whether a driver maps straight from tagged PFNs
 * @domain: a paging domain
 *
 * Not while mapping is traced: the event names a run, and a driver that takes
 * words does not tell which it mapped.
 *
 * Return: whether iommu_map_words() may be called.
 */
bool iommu_takes_words(struct iommu_domain *domain)
{
	const struct iommu_run_ops *ops = domain->ops->run_ops;

	return ops && ops->map_words && !trace_map_enabled();
}

/**
 * iommu_map_words() - map the pages of tagged PFNs in the leaf table at hand
 * @domain: a domain whose driver takes words
 * @cursor: where the series of calls that this one belongs to stands
 * @iova: IOVA of the first word's page
 * @words: one word per page; the linkable ones get MAPPED
 * @nr: how many words
 * @count: what was mapped, added to
 *
 * Context: any. The caller owns the IOVAs.
 * Return: how many words the driver got through, 0 if the next one is another
 * table's or cannot be mapped.
 */
size_t iommu_map_words(struct iommu_domain *domain,
		       struct iommu_map_cursor *cursor, unsigned long iova,
		       u64 *words, size_t nr, struct iommu_map_count *count)
{
	return domain->ops->run_ops->map_words(domain, cursor, iova, words, nr,
					       count);
}

static void unmap_span_by_pages(struct iommu_domain *domain,
				struct iommu_span *span,
				struct iommu_iotlb_gather *gather)
{
	size_t granule = granule_of(domain);
	struct iommu_span left = *span, found;
	bool cleared = false;
	size_t got;

	for (; find_mapped(domain, &left, &found); left.start = found.end) {
		got = domain->ops->unmap_pages(
			domain, found.start, granule,
			(found.end - found.start) / granule, gather);
		/* The driver forgot what is there, and could not tell the device. */
		WARN_ON(!got);
		span->start = min(span->start, found.start);
		span->end = max(span->end, found.end);
		cleared = true;
	}
	if (cleared && !iommu_iotlb_gather_queued(gather))
		iommu_iotlb_gather_add_range(gather, span->start,
					     span->end - span->start);
}

/**
 * iommu_unmap_span() - clear everything mapped between two IOVAs
 * @domain: a paging domain
 * @span: from where to where; grows to the borders of the entries it cut
 * @gather: what to flush, added to. Nothing mapped adds nothing
 *
 * Context: any. The caller owns the IOVAs, and flushes @gather before anybody reuses
 * either them or the memory.
 */
void iommu_unmap_span(struct iommu_domain *domain, struct iommu_span *span,
		      struct iommu_iotlb_gather *gather)
{
	const struct iommu_run_ops *ops = domain->ops->run_ops;

	if (likely(ops && ops->unmap_span))
		ops->unmap_span(domain, span, gather);
	else
		unmap_span_by_pages(domain, span, gather);
	trace_unmap(span->start, span->end - span->start,
		    span->end - span->start);
}

/**
 * iommu_sync_map() - make new entries visible to the hardware
 * @domain: a paging domain
 * @iova: first IOVA
 * @size: bytes
 *
 * Context: any.
 * Return: 0, or what the driver says.
 */
int iommu_sync_map(struct iommu_domain *domain, unsigned long iova, size_t size)
{
	if (dma_iova_fails(DMA_IOVA_SEAM_SYNC))
		return -EIO;
	if (!domain->ops->iotlb_sync_map)
		return 0;
	return domain->ops->iotlb_sync_map(domain, iova, size);
}

/**
 * iommu_map_run() - iommu_map(), the way that the driver maps runs if it does
 * @domain: a paging domain
 * @iova: first IOVA, aligned to the granule
 * @paddr: first physical address, aligned to the granule
 * @size: bytes, a multiple of the granule
 * @prot: IOMMU_READ and friends
 * @gfp: how to allocate tables
 *
 * For one-shot mappings: one walk of the I/O page table, and no search for page sizes, which
 * costs as much again.
 *
 * Context: as @gfp allows. The caller owns the IOVAs.
 * Return: 0 with the entries visible to the hardware, or an error with nothing mapped.
 */
int iommu_map_run(struct iommu_domain *domain, unsigned long iova,
		  phys_addr_t paddr, size_t size, int prot, gfp_t gfp)
{
	const struct iommu_run_ops *ops = domain->ops->run_ops;
	struct iommu_run run = {
		.iova = iova,
		.paddr = paddr,
		.size = size,
		.prot = prot,
	};
	struct iommu_map_cursor cursor = {};
	unsigned int done;
	int ret;

	if (!ops || !ops->map_runs)
		return iommu_map(domain, iova, paddr, size, prot, gfp);
	ret = iommu_map_runs(domain, &cursor, &run, 1, gfp, &done);
	if (ret)
		return ret;
	ret = iommu_sync_map(domain, iova, size);
	if (unlikely(ret))
		iommu_unmap(domain, iova, size);
	return ret;
}

/**
 * iommu_remembers_requests() - whether a part of a run cannot be unmapped
 * @domain: a paging domain, or NULL
 *
 * Return: true if the driver remembers requests instead of tables: unmapping a page takes out
 * all that was mapped as one run inside 2 MiB. Otherwise only large entries go as a whole.
 */
bool iommu_remembers_requests(struct iommu_domain *domain)
{
	const struct iommu_run_ops *ops = domain ? domain->ops->run_ops : NULL;

	return ops && ops->find_mapped;
}
EXPORT_SYMBOL_GPL(iommu_remembers_requests);
