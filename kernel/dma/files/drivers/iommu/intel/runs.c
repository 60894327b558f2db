// SPDX-License-Identifier: GPL-2.0
/*
 * Copyright (c) 2026 The Twostep authors
 *
 * VT-d: mapping and unmapping by runs (linux/iommu-runs.h).
 *
 * A table has 512 entries. Level 1 is the leaf, an entry of it maps 4 KiB; an entry of
 * level 2 or 3 either points to a table or, with the large bit, maps 2 MiB or 1 GiB.
 *
 * Mapping keeps the leaf table of the last page in the cursor: pages of the same 2 MiB of
 * IOVA are written without another walk. Nothing else may be in an entry that is written:
 * a run that meets one fails with -EEXIST and takes its own entries back.
 *
 * Unmapping a part of a leaf table clears entries only. Whole tables go through the
 * driver's own walk, which frees them; that walk takes a large entry of which it sees only
 * a part for a table, so both ends are first moved out to the borders of the large entries
 * they lie in.
 *
 * Entries are written with single 64-bit stores, children before parents, so that hardware
 * walking at the same time sees either nothing or a whole entry. When the hardware does not
 * snoop, written entries are flushed from the CPU's cache once per leaf table and call.
 */

#include <linux/io.h>
#include <linux/iommu.h>
#include <linux/iommu-runs.h>

#include "../dma-iova.h"
#include "../iommu-pages.h"
#include "iommu.h"

/* Bytes of IOVA below one leaf table. */
#define LEAF_SPAN (VTD_PAGE_SIZE << LEVEL_STRIDE)

static_assert(LEAF_SPAN == DMA_IOVA_BLOCK);
static_assert(PAGE_SIZE == VTD_PAGE_SIZE, "a word is an entry");

/**
 * struct leaf_writer - the leaf table that entries are being written to
 * @domain: the domain
 * @cursor: where it is remembered between calls
 * @first: first entry written since the last flush of the CPU's cache, NULL if
 *	none or if the hardware snoops
 * @behind: behind the last entry written
 * @gfp: how to allocate tables
 */
struct leaf_writer {
	struct dmar_domain *domain;
	struct iommu_map_cursor *cursor;
	struct dma_pte *first;
	struct dma_pte *behind;
	gfp_t gfp;
};

static void flush_cache(struct dmar_domain *domain, void *addr, size_t size)
{
	if (!domain->iommu_coherency)
		clflush_cache_range(addr, size);
}

static void writer_flush(struct leaf_writer *writer)
{
	if (writer->first)
		clflush_cache_range(writer->first,
				    (void *)writer->behind -
					    (void *)writer->first);
	writer->first = NULL;
}

/* Remember entries to flush: those of one table, in rising order. */
static void writer_wrote(struct leaf_writer *writer, struct dma_pte *first,
			 struct dma_pte *behind)
{
	if (likely(writer->domain->iommu_coherency))
		return;
	if (!writer->first)
		writer->first = first;
	writer->behind = behind;
}

/*
 * The lowest entry that exists for a PFN: a leaf, a large entry, or an absent
 * one. Others may put a table into an absent entry at any time, so what it was is
 * decided once: @seen is what the caller goes by, never the entry again.
 */
static struct dma_pte *lowest_entry(struct dmar_domain *domain,
				    unsigned long iov_pfn, int *level,
				    struct dma_pte *seen)
{
	struct dma_pte *table = domain->pgd;
	struct dma_pte *pte;

	for (*level = agaw_to_level(domain->agaw);; (*level)--) {
		pte = &table[pfn_level_offset(iov_pfn, *level)];
		seen->val = READ_ONCE(pte->val);
		if (*level == 1 || !dma_pte_present(seen) ||
		    dma_pte_superpage(seen))
			return pte;
		table = phys_to_virt(dma_pte_addr(seen));
	}
}

/* Put a new table below an absent entry; another CPU's is as good. */
static int add_table(struct dmar_domain *domain, struct dma_pte *pte, gfp_t gfp)
{
	u64 absent = 0, val = DMA_PTE_READ | DMA_PTE_WRITE;
	void *table;

	if (dma_iova_fails(DMA_IOVA_SEAM_TABLE))
		return -ENOMEM;
	table = iommu_alloc_page_node(domain->nid, gfp);
	if (!table)
		return -ENOMEM;

	flush_cache(domain, table, VTD_PAGE_SIZE);
	val |= virt_to_dma_pfn(table) << VTD_PAGE_SHIFT;
	if (domain->use_first_level)
		val |= DMA_FL_PTE_US | DMA_FL_PTE_ACCESS;
	if (!try_cmpxchg64(&pte->val, &absent, val))
		iommu_free_page(table);
	/* Whoever put it there may not have come to this line yet. */
	flush_cache(domain, pte, sizeof(*pte));
	return 0;
}

/* The entry of a PFN at a level, with the tables above it made. */
static struct dma_pte *make_entry(struct dmar_domain *domain,
				  unsigned long iov_pfn, int level, gfp_t gfp)
{
	struct dma_pte *table = domain->pgd;
	int at = agaw_to_level(domain->agaw);
	struct dma_pte *pte, seen;
	int ret;

	for (;; at--) {
		pte = &table[pfn_level_offset(iov_pfn, at)];
		if (at == level)
			return pte;
		seen.val = READ_ONCE(pte->val);
		if (!dma_pte_present(&seen)) {
			ret = add_table(domain, pte, gfp);
			if (ret)
				return ERR_PTR(ret);
			seen.val = READ_ONCE(pte->val);
		}
		if (dma_pte_superpage(&seen))
			return ERR_PTR(-EEXIST);
		table = phys_to_virt(dma_pte_addr(&seen));
	}
}

/* The level of the largest entry that the next pages of a run may take. */
static int entry_level(struct leaf_writer *writer, unsigned long iov_pfn,
		       unsigned long pfn, unsigned long nr)
{
	unsigned int max_order = writer->cursor->max_order ?: BITS_PER_LONG;
	unsigned long bits = iov_pfn | pfn;
	int level = 1;

	if (likely(nr < level_size(2)))
		return 1;
	while (level <= writer->domain->iommu_superpage &&
	       nr >= level_size(level + 1) &&
	       !(bits & (level_size(level + 1) - 1)) &&
	       VTD_PAGE_SHIFT + level_to_offset_bits(level + 1) <= max_order)
		level++;
	return level;
}

/* Whether a table and those below it have no entry that maps anything. */
static bool table_is_empty(struct dma_pte *table, int level)
{
	struct dma_pte *pte;

	for (pte = table; pte < table + BIT(LEVEL_STRIDE); pte++) {
		if (!dma_pte_present(pte))
			continue;
		if (level == 1 || dma_pte_superpage(pte) ||
		    !table_is_empty(phys_to_virt(dma_pte_addr(pte)), level - 1))
			return false;
	}
	return true;
}

/*
 * Where a large entry goes there may be tables left from smaller ones. They are this caller's
 * alone, since their span is; empty, they go, after the hardware forgot them.
 */
static int remove_empty_table(struct dmar_domain *domain, struct dma_pte *pte,
			      unsigned long iov_pfn, int level)
{
	unsigned long last_pfn = iov_pfn + level_size(level) - 1;
	LIST_HEAD(freelist);

	if (!table_is_empty(phys_to_virt(dma_pte_addr(pte)), level - 1))
		return -EEXIST;

	domain_unmap(domain, iov_pfn, last_pfn, &freelist);
	cache_tag_flush_range(domain, iov_pfn << VTD_PAGE_SHIFT,
			      ((last_pfn + 1) << VTD_PAGE_SHIFT) - 1, 0);
	iommu_put_pages_list(&freelist);
	return 0;
}

/* Write one large entry. Returns its pages, or an error. */
static long write_large(struct leaf_writer *writer, unsigned long iov_pfn,
			unsigned long pfn, u64 attr, int level)
{
	struct dmar_domain *domain = writer->domain;
	struct dma_pte *pte;
	int ret;

	pte = make_entry(domain, iov_pfn, level, writer->gfp);
	if (IS_ERR(pte))
		return PTR_ERR(pte);
	if (dma_pte_present(pte)) {
		if (dma_pte_superpage(pte))
			return -EEXIST;
		ret = remove_empty_table(domain, pte, iov_pfn, level);
		if (ret)
			return ret;
	}
	WRITE_ONCE(pte->val,
		   (u64)pfn << VTD_PAGE_SHIFT | attr | DMA_PTE_LARGE_PAGE);
	flush_cache(domain, pte, sizeof(*pte));
	return level_size(level);
}

/* Point the cursor at the leaf table of a PFN. */
static int seek_leaf(struct leaf_writer *writer, unsigned long iov_pfn)
{
	struct dma_pte *pte =
		make_entry(writer->domain, iov_pfn, 1, writer->gfp);

	if (IS_ERR(pte))
		return PTR_ERR(pte);
	writer_flush(writer);
	writer->cursor->leaf = (void *)((unsigned long)pte & VTD_PAGE_MASK);
	writer->cursor->leaf_iova = (iov_pfn & ~LEVEL_MASK) << VTD_PAGE_SHIFT;
	return 0;
}

/* Write entries up to the end of a leaf table. Returns how many, or an error. */
static long write_leaf(struct leaf_writer *writer, unsigned long iov_pfn,
		       unsigned long pfn, unsigned long nr, u64 attr)
{
	struct iommu_map_cursor *cursor = writer->cursor;
	struct dma_pte *pte, *first, *behind;
	u64 val;
	int ret;

	if (!cursor->leaf ||
	    (cursor->leaf_iova >> VTD_PAGE_SHIFT) != (iov_pfn & ~LEVEL_MASK)) {
		ret = seek_leaf(writer, iov_pfn);
		if (ret)
			return ret;
	}

	first = (struct dma_pte *)cursor->leaf + (iov_pfn & LEVEL_MASK);
	behind = first + min_t(unsigned long, nr,
			       BIT(LEVEL_STRIDE) - (iov_pfn & LEVEL_MASK));
	/* Look first: an entry of a live table may be used as soon as it is there. */
	for (pte = first; pte < behind; pte++)
		if (unlikely(pte->val))
			return -EEXIST;
	val = (u64)pfn << VTD_PAGE_SHIFT | attr;
	for (pte = first; pte < behind; pte++, val += VTD_PAGE_SIZE)
		WRITE_ONCE(pte->val, val);
	writer_wrote(writer, first, behind);
	return behind - first;
}

/*
 * The bits of an entry beside its address, 0 if the domain cannot have such
 * rights. What can be written can be read, as in this driver's map_pages(): devices read
 * back what they wrote, and hardware without the ZLR capability faults on reads of no bytes.
 */
static u64 entry_attr(struct dmar_domain *domain, int prot)
{
	u64 attr = DMA_PTE_READ;

	if (!(prot & (IOMMU_READ | IOMMU_WRITE)))
		return 0;
	if (prot & IOMMU_WRITE)
		attr |= DMA_PTE_WRITE;
	else if (domain->nested_parent)
		return 0;
	if (domain->set_pte_snp)
		attr |= DMA_PTE_SNP;
	if (domain->use_first_level) {
		attr |= DMA_FL_PTE_PRESENT | DMA_FL_PTE_US | DMA_FL_PTE_ACCESS;
		if (prot & IOMMU_WRITE)
			attr |= DMA_FL_PTE_DIRTY;
	}
	return attr;
}

static bool domain_reaches(struct dmar_domain *domain,
			   const struct iommu_run *run)
{
	int width = agaw_to_width(domain->agaw);
	u64 last = run->iova + run->size - 1;

	return last >= run->iova && (width >= 64 || !(last >> width));
}

/* Map one run wholly or not at all. */
static int map_run(struct leaf_writer *writer, const struct iommu_run *run,
		   u64 attr)
{
	unsigned long iov_pfn = run->iova >> VTD_PAGE_SHIFT;
	unsigned long pfn = run->paddr >> VTD_PAGE_SHIFT;
	unsigned long left = run->size >> VTD_PAGE_SHIFT;
	struct iommu_iotlb_gather gather;
	struct iommu_span mapped;
	long nr;
	int level;

	if (dma_iova_fails(DMA_IOVA_SEAM_RUN))
		return -ENOMEM;
	if (!attr || !domain_reaches(writer->domain, run))
		return -EINVAL;
	while (left) {
		level = entry_level(writer, iov_pfn, pfn, left);
		if (level > 1)
			nr = write_large(writer, iov_pfn, pfn, attr, level);
		else
			nr = write_leaf(writer, iov_pfn, pfn, left, attr);
		if (nr < 0)
			goto err_unmap;
		iov_pfn += nr;
		pfn += nr;
		left -= nr;
	}
	return 0;

err_unmap:
	mapped.start = run->iova;
	mapped.end = iov_pfn << VTD_PAGE_SHIFT;
	if (mapped.start < mapped.end) {
		/* The tables go, too: the cursor must not outlive them. */
		writer_flush(writer);
		writer->cursor->leaf = NULL;
		iommu_iotlb_gather_init(&gather);
		intel_iommu_unmap_span(&writer->domain->domain, &mapped,
				       &gather);
		dma_iova_flush(&writer->domain->domain, &gather);
	}
	return nr;
}

static int intel_iommu_map_runs(struct iommu_domain *domain,
				struct iommu_map_cursor *cursor,
				const struct iommu_run *runs, unsigned int nr,
				gfp_t gfp, unsigned int *done)
{
	struct dmar_domain *dmar_domain = to_dmar_domain(domain);
	struct leaf_writer writer = {
		.domain = dmar_domain,
		.cursor = cursor,
		.gfp = gfp,
	};
	unsigned int i;
	int ret = 0;

	/* Read by whoever would make the domain force snooping: set before the first entry. */
	if (!dmar_domain->has_mappings)
		dmar_domain->has_mappings = true;

	for (i = 0; i < nr; i++) {
		ret = map_run(&writer, &runs[i],
			      entry_attr(dmar_domain, runs[i].prot));
		if (unlikely(ret))
			break;
	}
	/* Written only where it grows: all CPUs read this. */
	if (i && runs[i - 1].iova + runs[i - 1].size > dmar_domain->max_addr)
		dmar_domain->max_addr = runs[i - 1].iova + runs[i - 1].size;
	writer_flush(&writer);
	*done = i;
	return ret;
}

static size_t intel_iommu_map_words(struct iommu_domain *domain,
				    struct iommu_map_cursor *cursor,
				    unsigned long iova, u64 *words, size_t nr,
				    struct iommu_map_count *count)
{
	struct dmar_domain *dmar_domain = to_dmar_domain(domain);
	unsigned long at = (iova - cursor->leaf_iova) >> VTD_PAGE_SHIFT;
	u64 *word = words, *end, value, last = 0;
	size_t runs = 0, pages = 0;
	struct dma_pte *pte, *first;
	u64 attrs[4] = {
		[1] = entry_attr(dmar_domain, IOMMU_WRITE),
		[2] = entry_attr(dmar_domain, IOMMU_READ),
		[3] = entry_attr(dmar_domain, IOMMU_READ | IOMMU_WRITE),
	};

	static_assert(PFN_TAG_READ >> 62 == 2 && PFN_TAG_WRITE >> 62 == 1);
	if (!cursor->leaf || at >= BIT(LEVEL_STRIDE) || !attrs[2])
		return 0;
	first = (struct dma_pte *)cursor->leaf + at;
	end = words + min_t(size_t, nr, BIT(LEVEL_STRIDE) - at);
	for (pte = first; word < end; word++, pte++) {
		value = *word;
		if (!pfn_tag_linkable(value)) {
			last = 0;
			continue;
		}
		if (pte->val)
			break;
		WRITE_ONCE(pte->val,
			   value << VTD_PAGE_SHIFT | attrs[value >> 62]);
		*word = value | PFN_TAG_MAPPED;
		runs += value != last + 1;
		last = value;
		pages++;
	}
	flush_cache(dmar_domain, first, (void *)pte - (void *)first);
	count->runs += runs;
	count->pages += pages;
	return word - words;
}

/* Clear a part of a leaf table. Returns whether anything was there. */
static bool clear_leaf(struct dmar_domain *domain, struct dma_pte *first,
		       unsigned long nr)
{
	struct dma_pte *pte, *behind = first + nr;
	u64 found = 0;

	for (pte = first; pte < behind; pte++) {
		found |= pte->val;
		WRITE_ONCE(pte->val, 0);
	}
	if (found)
		flush_cache(domain, first, (void *)behind - (void *)first);
	return found;
}

/* Clear a large entry; the span becomes its whole span. */
static void clear_large(struct dmar_domain *domain, struct dma_pte *pte,
			int level, struct iommu_span *span)
{
	size_t size = level_size(level) << VTD_PAGE_SHIFT;

	WRITE_ONCE(pte->val, 0);
	flush_cache(domain, pte, sizeof(*pte));
	span->start &= ~(size - 1);
	span->end = span->start + size;
}

/* Clear a span below one leaf table. Returns whether anything was there. */
static bool clear_part(struct dmar_domain *domain, struct iommu_span *span)
{
	unsigned long nr = (span->end - span->start) >> VTD_PAGE_SHIFT;
	struct dma_pte *pte, seen;
	int level;

	pte = lowest_entry(domain, span->start >> VTD_PAGE_SHIFT, &level,
			   &seen);
	if (level == 1)
		return clear_leaf(domain, pte, nr);
	if (!dma_pte_present(&seen))
		return false;
	clear_large(domain, pte, level, span);
	return true;
}

/* The borders of the large entry that a page lies in; of the page itself if in none. */
static void entry_borders(struct dmar_domain *domain, unsigned long iov_pfn,
			  unsigned long *first, unsigned long *behind)
{
	struct dma_pte seen;
	int level;

	lowest_entry(domain, iov_pfn, &level, &seen);
	if (!dma_pte_present(&seen))
		level = 1;
	*first = iov_pfn & level_mask(level);
	*behind = *first + level_size(level);
}

/*
 * Clear a span of whole leaf tables, and free those. Returns whether anything was
 * there, or may have been.
 */
static bool clear_tables(struct dmar_domain *domain, struct iommu_span *span,
			 struct list_head *freelist)
{
	unsigned long start = span->start >> VTD_PAGE_SHIFT;
	unsigned long last = (span->end - 1) >> VTD_PAGE_SHIFT;
	unsigned long behind, unused;
	struct dma_pte *pte, seen;
	int level;

	pte = lowest_entry(domain, start, &level, &seen);
	if (level > 1 && !((start ^ last) & level_mask(level))) {
		if (!dma_pte_present(&seen))
			return false;
		clear_large(domain, pte, level, span);
		return true;
	}
	entry_borders(domain, last, &unused, &behind);
	entry_borders(domain, start, &start, &unused);
	domain_unmap(domain, start, behind - 1, freelist);
	span->start = start << VTD_PAGE_SHIFT;
	span->end = behind << VTD_PAGE_SHIFT;
	return true;
}

void intel_iommu_unmap_span(struct iommu_domain *domain,
			    struct iommu_span *span,
			    struct iommu_iotlb_gather *gather)
{
	struct dmar_domain *dmar_domain = to_dmar_domain(domain);
	struct iommu_span part = *span;
	const unsigned long end = span->end;
	bool found = false;

	/* Up to a leaf table's border, whole tables, and the rest. */
	if (!IS_ALIGNED(part.start, LEAF_SPAN)) {
		part.end = min(end, ALIGN(part.start, LEAF_SPAN));
		found |= clear_part(dmar_domain, &part);
		span->start = part.start;
		part.start = part.end;
	}
	if (part.start < ALIGN_DOWN(end, LEAF_SPAN)) {
		part.end = ALIGN_DOWN(end, LEAF_SPAN);
		found |= clear_tables(dmar_domain, &part, &gather->freelist);
		span->start = min(span->start, part.start);
		part.start = part.end;
	}
	if (part.start < end) {
		part.end = end;
		found |= clear_part(dmar_domain, &part);
		span->start = min(span->start, part.start);
	}
	span->end = max(end, part.end);
	if (found && !iommu_iotlb_gather_queued(gather))
		iommu_iotlb_gather_add_range(gather, span->start,
					     span->end - span->start);
}

const struct iommu_run_ops intel_iommu_run_ops = {
	.map_runs = intel_iommu_map_runs,
	.map_words = intel_iommu_map_words,
	.unmap_span = intel_iommu_unmap_span,
};
