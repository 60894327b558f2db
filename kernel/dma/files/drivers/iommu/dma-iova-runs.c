// SPDX-License-Identifier: GPL-2.0
/*
 * Copyright (c) 2026 The Twostep authors
 *
 * Two-step DMA: link and unlink many runs of a range (linux/dma-iova.h).
 *
 * Linking. An iterator or an array of words feeds runs to a batch on the stack; a full
 * batch goes to the IOMMU driver in one call. The driver's cursor lives as long as the
 * call, so pages that are scattered in memory but neighbours in the range cost one walk of
 * the I/O page table per leaf table. The hull of what was linked is made visible once, at
 * the end.
 *
 * Unlinking. One gather collects what all runs cleared, one flush ends the call.
 *
 * Progress. A batch knows for each of its runs how much of the caller's input is done once
 * the run is linked, so that a failure can say exactly where it came.
 */

#include <linux/dma-map-ops.h>
#include <linux/export.h>
#include <linux/iommu-dma.h>
#include <linux/iommu.h>
#include <linux/iommu-runs.h>
#include <trace/events/dma_iova.h>

#include "dma-iova.h"

/* Runs per call of an IOMMU driver. The batch is on the stack: 40 bytes each. */
#define BATCH_RUNS 16

/**
 * struct link_batch - runs on their way to the IOMMU driver
 * @dev: device
 * @domain: its domain
 * @cursor: the driver's
 * @linked: hull of what is linked, start > end if nothing
 * @nr_linked: runs linked so far
 * @finished: input of the caller, in its own unit, up to which all is linked
 * @gfp: for tables
 * @nr: runs waiting; after a failure none waits, and those that were not
 *	linked are still in @runs from @failed on
 * @failed: first run that was not linked
 * @behind: behind the last run that was not linked
 * @runs: the runs waiting, in order of IOVA and disjoint
 * @done_at: what @finished becomes once the run is linked
 */
struct link_batch {
	struct device *dev;
	struct iommu_domain *domain;
	struct iommu_map_cursor cursor;
	struct iommu_span linked;
	size_t nr_linked;
	size_t finished;
	gfp_t gfp;
	unsigned int nr;
	unsigned int failed;
	unsigned int behind;
	struct iommu_run runs[BATCH_RUNS];
	size_t done_at[BATCH_RUNS];
};

static void batch_init(struct link_batch *batch, struct device *dev,
		       const struct dma_iova_state *state, gfp_t gfp)
{
	batch->dev = dev;
	batch->domain = iommu_get_dma_domain(dev);
	batch->cursor = (struct iommu_map_cursor){
		.max_order = dma_iova_entry_order(state),
	};
	batch->linked = (struct iommu_span){ .start = ULONG_MAX };
	batch->nr_linked = 0;
	batch->finished = 0;
	batch->gfp = gfp;
	batch->nr = 0;
	batch->failed = 0;
	batch->behind = 0;
}

/* Book the first waiting runs as linked. */
static void batch_linked(struct link_batch *batch, unsigned int nr)
{
	const struct iommu_run *last, *run;
	size_t size = 0;

	if (!nr)
		return;
	last = &batch->runs[nr - 1];
	for (run = batch->runs; run <= last; run++) {
		size += run->size;
		debug_dma_iova_link(batch->dev, run->iova,
				    run->iova + run->size);
	}
	batch->linked.start = min(batch->linked.start, batch->runs->iova);
	batch->linked.end = max(batch->linked.end, last->iova + last->size);
	batch->finished = batch->done_at[nr - 1];
	batch->nr_linked += nr;
	dma_iova_count(DMA_IOVA_RUNS, nr);
	dma_iova_count(DMA_IOVA_PAGES,
		       size >> __ffs(batch->domain->pgsize_bitmap));
}

/* Hand the waiting runs over; none waits afterwards. */
static int batch_flush(struct link_batch *batch)
{
	const struct iommu_run *failed;
	unsigned int done;
	int ret;

	if (!batch->nr)
		return 0;
	ret = iommu_map_runs(batch->domain, &batch->cursor, batch->runs,
			     batch->nr, batch->gfp, &done);
	dma_iova_count(DMA_IOVA_IOMMU_CALLS, 1);
	batch_linked(batch, done);
	if (ret) {
		failed = &batch->runs[done];
		batch->failed = done;
		batch->behind = batch->nr;
		debug_dma_iova_link_failed(batch->dev, failed->iova,
					   failed->iova + failed->size, ret);
	}
	batch->nr = 0;
	return ret;
}

/* Add a run, to the last one if it continues that. */
static int batch_add(struct link_batch *batch, const struct iommu_run *run)
{
	struct iommu_run *last = batch->nr ? &batch->runs[batch->nr - 1] : NULL;
	int ret;

	if (last && last->iova + last->size == run->iova &&
	    last->paddr + last->size == run->paddr && last->prot == run->prot) {
		last->size += run->size;
		return 0;
	}
	if (batch->nr == BATCH_RUNS ||
	    (last && run->iova < last->iova + last->size)) {
		ret = batch_flush(batch);
		if (ret)
			return ret;
	}
	batch->runs[batch->nr++] = *run;
	return 0;
}

/*
 * Make what a batch linked visible. If the IOMMU cannot (-EIO, whatever it calls that), the
 * hull is unlinked: what else is in there went through the same broken IOMMU. @error: how
 * linking ended.
 */
static int batch_finish(struct link_batch *batch, int error)
{
	struct iommu_iotlb_gather gather;
	int ret = 0;

	if (batch->nr_linked)
		ret = dma_iova_sync_span(batch->dev, batch->domain,
					 &batch->linked);
	if (unlikely(ret)) {
		ret = -EIO;
		iommu_iotlb_gather_init(&gather);
		dma_iova_unmap_span(batch->dev, batch->domain, &batch->linked,
				    &gather);
		dma_iova_flush(batch->domain, &gather);
		batch->finished = 0;
	}
	dma_iova_count(DMA_IOVA_LINKS, 1);
	if (!batch->nr_linked)
		batch->linked = (struct iommu_span){};
	trace_dma_iova_link(batch->dev, batch->linked.start,
			    batch->linked.end - batch->linked.start,
			    batch->nr_linked, ret ?: error);
	return ret;
}

static int prot_of_tags(struct device *dev, u64 tags, enum pfn_tag_kind kind)
{
	int prot = 0;

	if (kind == PFN_KIND_P2P_BRIDGE)
		prot |= IOMMU_MMIO;
	else if (dev_is_dma_coherent(dev))
		prot |= IOMMU_CACHE;
	if (tags & PFN_TAG_READ)
		prot |= IOMMU_READ;
	if (tags & PFN_TAG_WRITE)
		prot |= IOMMU_WRITE;
	return prot;
}

/* Check a caller's run and translate it. Returns 1, 0 if nothing is to be linked, or an error. */
static int translate_run(struct device *dev, struct iommu_domain *domain,
			 const struct dma_iova_state *state,
			 const struct dma_iova_run *run, struct iommu_run *out)
{
	struct iommu_span span;

	if (!dma_iova_within(state, run->offset, run->len) ||
	    !(run->access & PFN_TAG_ACCESS) ||
	    (state->addr + run->offset - run->phys) &
		    (dma_iova_granule(domain) - 1))
		return -EINVAL;
	if (run->kind == PFN_KIND_P2P_BUS ||
	    run->kind == PFN_KIND_DEVICE_PRIVATE)
		return 0;

	span = dma_iova_span(domain, state, run->offset, run->len);
	out->iova = span.start;
	out->paddr = run->phys - (state->addr + run->offset - span.start);
	out->size = span.end - span.start;
	out->prot = prot_of_tags(dev, run->access, run->kind);
	dma_iova_sync_for_device(dev, out->paddr, out->size, out->prot);
	return 1;
}

/**
 * dma_iova_link_runs() - link runs from an iterator
 * @dev: device, not one that must bounce
 * @state: the range
 * @iter: gives the runs, in any order; neighbours given in order coalesce. Afterwards
 *	&dma_iova_iter.runs says how many are completely done, counted from the first
 * @gfp: how to allocate I/O page tables
 *
 * Everything linked is visible to the device on return. On failure the first
 * &dma_iova_iter.runs runs stay linked and nothing of the later ones is. Only if the IOMMU
 * fails to make entries visible (-EIO) all between the call's first and last run is
 * unlinked.
 *
 * Context: as @gfp allows.
 * Return: 0; -EEXIST, -ENOMEM, -EINVAL, -EIO; -EOPNOTSUPP if the device must bounce.
 */
int dma_iova_link_runs(struct device *dev, struct dma_iova_state *state,
		       struct dma_iova_iter *iter, gfp_t gfp)
{
	struct dma_iova_run run;
	struct link_batch batch;
	struct iommu_run next;
	size_t taken = 0;
	int ret = 0, err;

	iter->runs = 0;
	if (dma_iova_must_bounce(dev))
		return -EOPNOTSUPP;

	batch_init(&batch, dev, state, gfp);
	while (iter->next(iter, &run)) {
		ret = translate_run(dev, batch.domain, state, &run, &next);
		if (ret > 0)
			ret = batch_add(&batch, &next);
		if (ret)
			break;
		taken++;
		if (batch.nr)
			batch.done_at[batch.nr - 1] = taken;
		else
			batch.finished = taken;
	}
	/* A run that failed to be handed over came before one that failed to be taken. */
	err = batch_flush(&batch);
	ret = err ?: ret;
	err = batch_finish(&batch, ret);
	iter->runs = batch.finished;
	return err ?: ret;
}
EXPORT_SYMBOL_GPL(dma_iova_link_runs);

static void clear_mapped(u64 *words, size_t nr)
{
	size_t i;

	for (i = 0; i < nr; i++)
		words[i] &= ~PFN_TAG_MAPPED;
}

/* Take MAPPED back from the words whose pages lie in a span. */
static void clear_hull(const struct iommu_span *hull, unsigned long iova,
		       u64 *words, size_t nr)
{
	unsigned long start = max(hull->start, iova);
	unsigned long end = min(hull->end, iova + nr * PAGE_SIZE);

	clear_mapped(words + (start - iova) / PAGE_SIZE,
		     (end - start) / PAGE_SIZE);
}

/* Whether words are pages of the range, one after the other from an offset. */
static bool words_fit(struct iommu_domain *domain,
		      const struct dma_iova_state *state, size_t offset,
		      size_t nr)
{
	dma_addr_t end = ALIGN(state->addr + dma_iova_size(state),
			       dma_iova_granule(domain));
	dma_addr_t start = state->addr + offset;

	return PAGE_ALIGNED(start) && offset < dma_iova_size(state) &&
	       nr <= (end - start) >> PAGE_SHIFT;
}

/* How many words from the first on are linkable: dma-debug books no holes. */
static size_t linkable_words(const u64 *words, size_t nr)
{
	size_t n = 0;

	while (n < nr && pfn_tag_linkable(words[n]))
		n++;
	return n;
}

/*
 * Have the driver write pages of the leaf table at hand, if there is one, straight from the
 * words. Returns how many words that was.
 */
static size_t leaf_words(struct link_batch *batch, unsigned long iova,
			 u64 *words, size_t nr)
{
	struct iommu_map_count count = {};
	size_t taken;

	if (IS_ENABLED(CONFIG_DMA_IOVA_DEBUG))
		nr = linkable_words(words, nr);
	taken = iommu_map_words(batch->domain, &batch->cursor, iova, words, nr,
				&count);
	if (!count.pages)
		return taken;
	debug_dma_iova_link(batch->dev, iova, iova + taken * PAGE_SIZE);
	batch->linked.start = min(batch->linked.start, iova);
	batch->linked.end = max(batch->linked.end, iova + taken * PAGE_SIZE);
	batch->nr_linked += count.runs;
	dma_iova_count(DMA_IOVA_IOMMU_CALLS, 1);
	dma_iova_count(DMA_IOVA_RUNS, count.runs);
	dma_iova_count(DMA_IOVA_PAGES, count.pages);
	return taken;
}

/* Collect the run that begins with a word; MAPPED already says that it is linked. */
static size_t collect_run(struct link_batch *batch, unsigned long iova,
			  u64 *words, size_t nr)
{
	struct iommu_run *run = &batch->runs[batch->nr++];
	u64 value = words[0];
	size_t n = 1;

	words[0] = value | PFN_TAG_MAPPED;
	while (n < nr && words[n] == value + n) {
		words[n] |= PFN_TAG_MAPPED;
		n++;
	}
	run->iova = iova;
	run->paddr = pfn_tag_phys(value);
	run->size = n * PAGE_SIZE;
	run->prot = prot_of_tags(batch->dev, value, pfn_tag_kind(value));
	dma_iova_sync_for_device(batch->dev, run->paddr, run->size, run->prot);
	return n;
}

/*
 * Link the words of an array. A driver that takes words gets the first run of
 * each leaf table, which makes it, and then the rest of the table at once.
 * Nothing waits in the batch while it does.
 */
static int batch_words(struct link_batch *batch, unsigned long iova, u64 *words,
		       size_t nr)
{
	bool takes_words = dev_is_dma_coherent(batch->dev) &&
			   iommu_takes_words(batch->domain);
	size_t i, n;
	int ret;

	for (i = 0; i < nr; i += n) {
		n = 1;
		if (!pfn_tag_linkable(words[i]))
			continue;
		if (takes_words && batch->cursor.leaf) {
			n = leaf_words(batch, iova + i * PAGE_SIZE, &words[i],
				       nr - i);
			if (n) {
				batch->finished = i + n;
				continue;
			}
		}
		n = collect_run(batch, iova + i * PAGE_SIZE, &words[i], nr - i);
		batch->done_at[batch->nr - 1] = i + n;
		if (!takes_words && batch->nr < BATCH_RUNS)
			continue;
		ret = batch_flush(batch);
		if (ret)
			return ret;
	}
	return batch_flush(batch);
}

/* Take MAPPED back from words that were collected and could not be linked. */
static void unmark_failed(const struct link_batch *batch, unsigned long iova,
			  u64 *words)
{
	const struct iommu_run *run;
	unsigned int i;

	for (i = batch->failed; i < batch->behind; i++) {
		run = &batch->runs[i];
		clear_mapped(words + (run->iova - iova) / PAGE_SIZE,
			     run->size / PAGE_SIZE);
	}
}

/*
 * Link one array of several; their pages follow one another in the range. Sets @done to how
 * many words are as after success.
 */
static int batch_array(struct link_batch *batch,
		       const struct dma_iova_state *state, size_t offset,
		       u64 *words, size_t nr, size_t *done)
{
	int ret;

	*done = 0;
	if (!words_fit(batch->domain, state, offset, nr))
		return -EINVAL;
	batch->finished = 0;
	ret = batch_words(batch, state->addr + offset, words, nr);
	if (unlikely(ret))
		unmark_failed(batch, state->addr + offset, words);
	*done = ret ? batch->finished : nr;
	return ret;
}

/**
 * dma_iova_link_pfns() - link the pages of an array of tagged PFNs
 * @dev: device, not one that must bounce
 * @state: the range
 * @offset: where in the range the page of the first word goes, at a page border of IOVA
 * @words: one word per page (linux/pfn-tag.h), none of them HUGE. Holes, words already
 *	MAPPED, and kinds that have no IOVA are passed over; the others get MAPPED
 * @nr: how many words
 * @done: out: words [0, @done) are as after success
 * @gfp: how to allocate I/O page tables
 *
 * Words whose PFNs and tags continue one another make one run. Everything linked is
 * visible to the device on return. On failure the words from @done on are untouched,
 * except if the IOMMU fails to make entries visible (-EIO): then all that lies between the
 * first and the last page that the call linked is unlinked, and not MAPPED. Whoever reads
 * the words without the caller's lock may see MAPPED while the call still runs.
 *
 * Context: as @gfp allows.
 * Return: 0; -EEXIST, -ENOMEM, -EINVAL, -EIO; -EOPNOTSUPP if the device must bounce.
 */
int dma_iova_link_pfns(struct device *dev, struct dma_iova_state *state,
		       size_t offset, u64 *words, size_t nr, size_t *done,
		       gfp_t gfp)
{
	struct link_batch batch;
	int ret, err;

	*done = 0;
	if (dma_iova_must_bounce(dev))
		return -EOPNOTSUPP;

	batch_init(&batch, dev, state, gfp);
	ret = batch_array(&batch, state, offset, words, nr, done);
	err = batch_finish(&batch, ret);
	if (unlikely(err)) {
		clear_hull(&batch.linked, state->addr + offset, words, nr);
		*done = 0;
	}
	return err ?: ret;
}
EXPORT_SYMBOL_GPL(dma_iova_link_pfns);

/**
 * dma_iova_link_arrays() - link the pages of several arrays of tagged PFNs
 * @dev: device, not one that must bounce
 * @state: the range
 * @offset: where in the range the page of the first array's first word goes, at a page border
 *	of IOVA; the pages of each array follow those of the one before
 * @arrays: gives the arrays. Afterwards &dma_iova_arrays.linked says how many words, counted
 *	from the first array's first, are as after success
 * @gfp: how to allocate I/O page tables
 *
 * As dma_iova_link_pfns() for all of them, with one sync at the end: a caller can make the
 * words in a small buffer as it goes. An array is the caller's again when the next one is
 * asked for. Runs end at the ends of arrays. If the IOMMU fails to make entries visible
 * (-EIO), all that lies between the first and the last page that the call linked is unlinked,
 * &dma_iova_arrays.linked is 0, and what the arrays say of MAPPED is void.
 *
 * Context: as @gfp allows.
 * Return: 0; -EEXIST, -ENOMEM, -EINVAL, -EIO; -EOPNOTSUPP if the device must bounce.
 */
int dma_iova_link_arrays(struct device *dev, struct dma_iova_state *state,
			 size_t offset, struct dma_iova_arrays *arrays,
			 gfp_t gfp)
{
	struct link_batch batch;
	size_t nr, done;
	int ret = 0, err;
	u64 *words;

	arrays->linked = 0;
	if (dma_iova_must_bounce(dev))
		return -EOPNOTSUPP;

	batch_init(&batch, dev, state, gfp);
	while (!ret && !arrays->last && (nr = arrays->next(arrays, &words))) {
		ret = batch_array(&batch, state,
				  offset + arrays->linked * PAGE_SIZE, words,
				  nr, &done);
		arrays->linked += done;
	}
	err = batch_finish(&batch, ret);
	if (unlikely(err))
		arrays->linked = 0;
	return err ?: ret;
}
EXPORT_SYMBOL_GPL(dma_iova_link_arrays);

/* Tell a caller what else went with its run. */
static void tell_widened(struct device *dev, const struct dma_iova_state *state,
			 struct dma_iova_iter *iter,
			 const struct iommu_span *asked,
			 const struct iommu_span *got)
{
	if (got->start == asked->start && got->end == asked->end)
		return;
	if (dev_WARN_ONCE(dev, !iter->widened,
			  "unlinked a part of an entry: all of it is gone\n"))
		return;
	if (got->start < asked->start)
		iter->widened(iter, got->start - state->addr,
			      asked->start - got->start);
	if (got->end > asked->end)
		iter->widened(iter, asked->end - state->addr,
			      got->end - asked->end);
}

/**
 * dma_iova_unlink_runs() - unlink runs from an iterator
 * @dev: device
 * @state: the range
 * @iter: gives the runs, in any order; only offset and length are read. Holes are fine
 *
 * One IOTLB flush ends the call, whatever the number of runs (the drivers of AMD and SMMU flush
 * at gaps in between as well); on return the device cannot reach any of the pages.
 *
 * Context: any.
 */
void dma_iova_unlink_runs(struct device *dev, struct dma_iova_state *state,
			  struct dma_iova_iter *iter)
{
	struct iommu_domain *domain = iommu_get_dma_domain(dev);
	struct iommu_span hull = { .start = ULONG_MAX };
	struct iommu_iotlb_gather gather;
	struct iommu_span asked, got;
	struct dma_iova_run run;

	WARN_ON_ONCE(state->__size & DMA_IOVA_BOUNCED);
	iommu_iotlb_gather_init(&gather);
	for (iter->runs = 0; iter->next(iter, &run); iter->runs++) {
		if (WARN_ON_ONCE(!dma_iova_within(state, run.offset, run.len)))
			continue;
		asked = dma_iova_span(domain, state, run.offset, run.len);
		got = asked;
		/* Exactly these bytes: the granules at the ends may be others', and dirty. */
		dma_iova_sync_for_cpu(dev, domain, state->addr + run.offset,
				      state->addr + run.offset + run.len,
				      DMA_BIDIRECTIONAL);
		dma_iova_unmap_span(dev, domain, &got, &gather);
		tell_widened(dev, state, iter, &asked, &got);
		hull.start = min(hull.start, got.start);
		hull.end = max(hull.end, got.end);
	}
	dma_iova_flush(domain, &gather);
	dma_iova_count(DMA_IOVA_UNLINKS, 1);
	if (hull.end)
		trace_dma_iova_unlink(dev, hull.start, hull.end - hull.start);
}
EXPORT_SYMBOL_GPL(dma_iova_unlink_runs);

/*
 * Let the CPU see what a device that does not snoop wrote. What it could only read is the CPU's
 * all along, whose writes to it must not be lost.
 */
static void sync_words_for_cpu(struct device *dev, struct iommu_domain *domain,
			       unsigned long iova, const u64 *words, size_t nr)
{
	size_t i;

	if (likely(dev_is_dma_coherent(dev)))
		return;
	for (i = 0; i < nr; i++, iova += PAGE_SIZE)
		if (words[i] & PFN_TAG_WRITE)
			dma_iova_sync_for_cpu(dev, domain, iova,
					      iova + PAGE_SIZE,
					      DMA_FROM_DEVICE);
}

/**
 * dma_iova_unlink_pfns() - unlink the MAPPED pages of an array of tagged PFNs
 * @dev: device
 * @state: the range
 * @offset: where in the range the page of the first word is, at a page border of IOVA
 * @words: one word per page; MAPPED is cleared, all else stays
 * @nr: how many words
 *
 * One IOTLB flush ends the call, as in dma_iova_unlink_runs(); on return the device cannot reach
 * any of the pages.
 *
 * Context: any.
 * Return: what went, in bytes from the start of the range: empty, or the hull of the words
 * that were MAPPED, larger than the array where an entry reached out of it.
 */
struct dma_iova_hull dma_iova_unlink_pfns(struct device *dev,
					  struct dma_iova_state *state,
					  size_t offset, u64 *words, size_t nr)
{
	struct iommu_domain *domain = iommu_get_dma_domain(dev);
	unsigned long base = state->addr + offset;
	struct iommu_span hull = { .start = ULONG_MAX };
	struct iommu_iotlb_gather gather;
	struct iommu_span span;
	size_t i, n;

	WARN_ON_ONCE(state->__size & DMA_IOVA_BOUNCED);
	if (WARN_ON_ONCE(!words_fit(domain, state, offset, nr)))
		return (struct dma_iova_hull){};

	iommu_iotlb_gather_init(&gather);
	for (i = 0; i < nr; i += n) {
		for (n = 0; i + n < nr && words[i + n] & PFN_TAG_MAPPED; n++)
			words[i + n] &= ~PFN_TAG_MAPPED;
		if (!n) {
			n = 1;
			continue;
		}
		span.start = base + (i << PAGE_SHIFT);
		span.end = span.start + (n << PAGE_SHIFT);
		sync_words_for_cpu(dev, domain, span.start, &words[i], n);
		dma_iova_unmap_span(dev, domain, &span, &gather);
		hull.start = min(hull.start, span.start);
		hull.end = max(hull.end, span.end);
		/* The rest of an entry that this run's end lay in is gone as well. */
		while (i + n < nr && base + ((i + n) << PAGE_SHIFT) < span.end)
			words[i + n++] &= ~PFN_TAG_MAPPED;
	}
	dma_iova_flush(domain, &gather);
	dma_iova_count(DMA_IOVA_UNLINKS, 1);
	if (!hull.end)
		return (struct dma_iova_hull){};
	trace_dma_iova_unlink(dev, hull.start, hull.end - hull.start);
	return (struct dma_iova_hull){
		.start = hull.start - state->addr,
		.end = hull.end - state->addr,
	};
}
EXPORT_SYMBOL_GPL(dma_iova_unlink_pfns);
