// SPDX-License-Identifier: GPL-2.0
/*
 * Copyright (c) 2026 The Twostep authors
 *
 * The window: IOVAs for large and for congruent ranges.
 *
 * The IOVA allocator of the kernel caches small sizes and serves the others from a tree
 * that it searches linearly for a gap, and it can align a range, not place it congruent
 * to an address. So a domain that is asked for its first large range gives up half of its
 * IOVAs above 4 GiB to a window, in one allocation. The window is cut into blocks of
 * 2 MiB, the span of a leaf I/O page table, and a maple tree finds a gap in logarithmic
 * time however many ranges live.
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

/**
 * struct dma_iova_window - the blocks of one domain
 * @ranges: block number to any non-NULL value, for every block taken
 * @first: first block number
 * @last: last block number, inclusive
 * @iovad: the allocator that the window was taken from
 * @taken: what was taken from it
 */
struct dma_iova_window {
	struct maple_tree ranges;
	unsigned long first;
	unsigned long last;
	struct iova_domain *iovad;
	struct iova *taken;
};

/**
 * dma_iova_window_create() - take a window out of a domain's IOVAs
 * @iovad: the domain's allocator
 * @aperture_last: last IOVA that the domain translates
 *
 * Tries half of the aperture first, then less: another user may live there.
 *
 * Return: the window, or NULL if the aperture has nothing to give above 4 GiB or memory
 * is short.
 */
struct dma_iova_window *dma_iova_window_create(struct iova_domain *iovad,
					       dma_addr_t aperture_last)
{
	unsigned long shift = iova_shift(iovad);
	struct dma_iova_window *window;
	u64 end = aperture_last / 2 + 1;
	struct iova *taken = NULL;

	for (; !taken && end > SZ_8G; end /= 2)
		taken = alloc_iova(iovad, (end - SZ_4G) >> shift,
				   (end >> shift) - 1, false);
	if (!taken)
		return NULL;

	window = kzalloc(sizeof(*window), GFP_KERNEL);
	if (!window) {
		__free_iova(iovad, taken);
		return NULL;
	}

	mt_init_flags(&window->ranges, MT_FLAGS_ALLOC_RANGE);
	window->first = DIV_ROUND_UP((u64)taken->pfn_lo << shift, WINDOW_BLOCK);
	window->last = (((u64)taken->pfn_hi + 1) << shift) / WINDOW_BLOCK - 1;
	window->iovad = iovad;
	window->taken = taken;
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
	if (!window)
		return;
	WARN_ON(!mtree_empty(&window->ranges));
	mtree_destroy(&window->ranges);
	__free_iova(window->iovad, window->taken);
	kfree(window);
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

	top = min_t(u64, window->last, (((u64)last + 1) >> WINDOW_SHIFT) - 1);
	nr = DIV_ROUND_UP((offset & (WINDOW_BLOCK - 1)) + size, WINDOW_BLOCK);
	if (dma_iova_fails(DMA_IOVA_SEAM_WINDOW) || top < window->first ||
	    top - window->first + 1 < nr + spare)
		return 0;
	if (mtree_alloc_range(&window->ranges, &first, window, nr + spare,
			      window->first, top, GFP_KERNEL))
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
	MA_STATE(mas, &window->ranges, addr >> WINDOW_SHIFT,
		 addr >> WINDOW_SHIFT);

	/* A range is one entry, spare blocks included: find its bounds, then clear it. */
	mas_lock(&mas);
	if (!WARN_ON(!mas_walk(&mas)))
		mas_store_gfp(&mas, NULL, GFP_KERNEL | __GFP_NOFAIL);
	mas_unlock(&mas);
}
