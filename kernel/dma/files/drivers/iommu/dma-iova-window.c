// SPDX-License-Identifier: GPL-2.0
/*
 * Copyright (c) 2026 The Twostep authors
 *
 * The window: IOVAs for large and for congruent ranges.
 *
 * The IOVA allocator of the kernel caches small sizes and serves the others from a tree
 * that it searches linearly for a gap, and it can align a range, not place it congruent
 * to an address. So a domain that is asked for its first large range gives the free part
 * of the lower half of its IOVAs to a window, a few large segments beside what is reserved
 * there (windows of PCI bridges). The window is cut into blocks of 2 MiB, the span of a
 * leaf I/O page table, and a maple tree finds a gap in logarithmic time however many
 * ranges live.
 *
 * Invariant: a block belongs to at most one range. So a leaf table inside the window
 * serves one range only, and freeing the range frees the table.
 *
 * A range is placed as low as it fits, which keeps the upper tables dense. To be
 * congruent modulo more than a block, one modulus more is taken than is used; IOVAs are
 * plenty, and nothing but the maple tree's node is paid for them.
 *
 * Locking: the maple tree's own lock. Allocating and freeing sleep.
 */

#include <linux/dma-mapping.h>
#include <linux/iova.h>
#include <linux/maple_tree.h>
#include <linux/sizes.h>
#include <linux/slab.h>

#include "dma-iova.h"

#define WINDOW_SHIFT 21
#define WINDOW_BLOCK DMA_IOVA_BLOCK

static_assert(WINDOW_BLOCK == 1UL << WINDOW_SHIFT);

/* No segment is smaller: what is below 4 GiB stays with devices that need it. */
#define MIN_SEGMENT_ORDER 36
#define MAX_SEGMENTS 16

/**
 * struct dma_iova_window - the blocks of one domain
 * @blocks: block number to the window itself where a range is, to @iovad where
 *	the block is not the window's, to NULL where it is free
 * @last: last block number, inclusive
 * @iovad: the allocator that the segments were taken from
 * @nr_segments: how many
 * @segments: what was taken
 */
struct dma_iova_window {
	struct maple_tree blocks;
	unsigned long last;
	struct iova_domain *iovad;
	unsigned int nr_segments;
	struct iova *segments[MAX_SEGMENTS];
};

/* Take aligned segments below an IOVA, the largest first. */
static void take_segments(struct dma_iova_window *window, dma_addr_t limit)
{
	struct iova_domain *iovad = window->iovad;
	unsigned long shift = iova_shift(iovad);
	struct iova *segment;
	int order;

	for (order = ilog2(limit); order >= MIN_SEGMENT_ORDER; order--) {
		while (window->nr_segments < MAX_SEGMENTS) {
			segment = alloc_iova(iovad, BIT(order - shift),
					     (limit >> shift) - 1, true);
			if (!segment)
				break;
			window->segments[window->nr_segments++] = segment;
		}
	}
}

/* Make the blocks of the segments free and all others not ours. */
static int open_segments(struct dma_iova_window *window)
{
	unsigned long shift = WINDOW_SHIFT - iova_shift(window->iovad);
	const struct iova *segment;
	unsigned int i;
	int ret;

	ret = mtree_store_range(&window->blocks, 0, window->last, window->iovad,
				GFP_KERNEL);
	for (i = 0; !ret && i < window->nr_segments; i++) {
		segment = window->segments[i];
		ret = mtree_store_range(&window->blocks,
					segment->pfn_lo >> shift,
					segment->pfn_hi >> shift, NULL,
					GFP_KERNEL);
	}
	return ret;
}

static void give_back(struct dma_iova_window *window)
{
	while (window->nr_segments)
		__free_iova(window->iovad,
			    window->segments[--window->nr_segments]);
	mtree_destroy(&window->blocks);
	kfree(window);
}

/**
 * dma_iova_window_create() - take a window out of a domain's IOVAs
 * @iovad: the domain's allocator
 * @aperture_last: last IOVA that the domain translates
 *
 * Return: the window, or NULL if there is nothing to take or memory is short.
 */
struct dma_iova_window *dma_iova_window_create(struct iova_domain *iovad,
					       dma_addr_t aperture_last)
{
	struct dma_iova_window *window;
	dma_addr_t limit = aperture_last / 2 + 1;

	if (dma_iova_fails(DMA_IOVA_SEAM_WINDOW))
		return NULL;
	window = kzalloc(sizeof(*window), GFP_KERNEL);
	if (!window)
		return NULL;
	mt_init_flags(&window->blocks, MT_FLAGS_ALLOC_RANGE);
	window->iovad = iovad;
	window->last = (limit >> WINDOW_SHIFT) - 1;
	take_segments(window, limit);
	if (!window->nr_segments || open_segments(window)) {
		give_back(window);
		return NULL;
	}
	return window;
}

/**
 * dma_iova_window_destroy() - give a window's IOVAs back
 * @window: the window, or NULL
 *
 * The domain goes: a range that still lives is its owner's bug.
 */
void dma_iova_window_destroy(struct dma_iova_window *window)
{
	unsigned long block = 0;
	void *entry;

	if (!window)
		return;
	mt_for_each(&window->blocks, entry, block, window->last)
		WARN_ON_ONCE(entry == window);
	give_back(window);
}

/**
 * dma_iova_window_alloc() - find a place for a range
 * @window: the window
 * @like: address whose remainder modulo @modulo the result shares
 * @modulo: a power of two
 * @size: bytes
 * @last: last IOVA that the device reaches
 *
 * Return: IOVA of the first byte, 0 if there is no room.
 */
dma_addr_t dma_iova_window_alloc(struct dma_iova_window *window, u64 like,
				 size_t modulo, size_t size, dma_addr_t last)
{
	unsigned long mask = max(modulo, WINDOW_BLOCK) - 1;
	unsigned long spare = mask >> WINDOW_SHIFT;
	unsigned long offset = like & (modulo - 1);
	unsigned long first, nr, top;
	dma_addr_t start;

	if (last < WINDOW_BLOCK)
		return 0;
	top = min_t(u64, window->last, ((last + 1) >> WINDOW_SHIFT) - 1);
	nr = DIV_ROUND_UP((offset & (WINDOW_BLOCK - 1)) + size, WINDOW_BLOCK);
	if (dma_iova_fails(DMA_IOVA_SEAM_WINDOW) || top + 1 < nr + spare)
		return 0;
	if (mtree_alloc_range(&window->blocks, &first, window, nr + spare, 0,
			      top, GFP_KERNEL))
		return 0;

	start = (dma_addr_t)first << WINDOW_SHIFT;
	return start + ((offset - start) & mask);
}

/**
 * dma_iova_window_free() - give a range back
 * @window: the window
 * @addr: what dma_iova_window_alloc() returned
 */
void dma_iova_window_free(struct dma_iova_window *window, dma_addr_t addr)
{
	MA_STATE(mas, &window->blocks, addr >> WINDOW_SHIFT,
		 addr >> WINDOW_SHIFT);

	/* A range is one entry, spare blocks included: find its bounds, then clear it. */
	mas_lock(&mas);
	if (!WARN_ON(mas_walk(&mas) != window))
		mas_store_gfp(&mas, NULL, GFP_KERNEL | __GFP_NOFAIL);
	mas_unlock(&mas);
}
