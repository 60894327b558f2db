/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Copyright (c) 2026 The Twostep authors
 *
 * From a request's bios straight to what a device is told, without a scatterlist.
 *
 *	bios ──► pieces ──► runs ──► mapping ──► DMA segments
 *
 * piece    what of one bio_vec lies in the request
 * run      neighbouring pieces, contiguous in memory, within the queue's limits of a segment
 * mapping  how the device reaches the memory: one IOVA range for all runs of the request, or
 *	    a mapping of its own for each run
 * segment  address and length, within the queue's limits
 *
 * A driver maps and takes the segments in one pass:
 *
 *	for (more = blk_rq_dma_map_iter_start(req, dev, &state, &iter); more;
 *	     more = blk_rq_dma_map_iter_next(req, dev, &state, &iter))
 *		put iter.addr and iter.len into the device's list
 *	if (iter.status != BLK_STS_OK)
 *		unmap what was taken, fail the request with it
 *
 * and unmaps with blk_rq_dma_unmap(), which is all there is to do unless it says no: then
 * each run had a mapping of its own, and the driver, which has the addresses in its list,
 * walks the request once more (blk_rq_dma_unmap_iter_start()).
 *
 * The request's bios must not be completed, not even partly, before it is unmapped.
 */
#ifndef _LINUX_BLK_MQ_DMA_H
#define _LINUX_BLK_MQ_DMA_H

#include <linux/blk-mq.h>
#include <linux/dma-iova.h>
#include <linux/dma-map-ops.h>
#include <linux/pfn-tag.h>

/**
 * struct blk_dma_run - bytes of a request that are contiguous in memory
 * @phys: physical address of the first
 * @page: its page
 * @len: how many
 */
struct blk_dma_run {
	phys_addr_t phys;
	struct page *page;
	u32 len;
};

/**
 * struct blk_dma_cursor - where in a bio the next run starts
 * @bvec: the bio_vec
 * @done: bytes of it that come before
 * @left: bytes of the bio from there on
 */
struct blk_dma_cursor {
	const struct bio_vec *bvec;
	u32 done;
	u32 left;
};

/**
 * struct blk_dma_iter - a request on its way to DMA segments
 * @addr: DMA address of the segment at hand
 * @len: its bytes
 * @status: why there is no segment at hand: BLK_STS_OK at the end of the request,
 *	BLK_STS_TARGET for a peer's memory that the device cannot reach, BLK_STS_RESOURCE if
 *	it may be tried again, others if the request cannot be mapped
 */
struct blk_dma_iter {
	dma_addr_t addr;
	u32 len;
	blk_status_t status;
	/* private: */
	u32 rest; /* bytes of the request's IOVA range behind this segment */
	struct blk_dma_run run;
	enum pfn_tag_kind kind; /* of the run */
	bool integrity;

	struct bio *bio; /* that the next run starts in */
	struct blk_dma_cursor at;
	struct pci_p2pdma_map_state p2pdma;
};

bool blk_rq_dma_map_iter_start(struct request *req, struct device *dma_dev,
			       struct dma_iova_state *state,
			       struct blk_dma_iter *iter);
bool blk_rq_dma_map_iter_next(struct request *req, struct device *dma_dev,
			      struct dma_iova_state *state,
			      struct blk_dma_iter *iter);

bool blk_rq_dma_unmap(struct request *req, struct device *dma_dev,
		      struct dma_iova_state *state);
bool blk_rq_dma_unmap_iter_start(struct request *req, struct device *dma_dev,
				 struct blk_dma_iter *iter);
bool blk_rq_dma_unmap_iter_next(struct request *req, struct device *dma_dev,
				struct blk_dma_iter *iter, dma_addr_t addr);
bool blk_rq_dma_sync_iter_next(struct request *req, struct device *dma_dev,
			       struct blk_dma_iter *iter, dma_addr_t addr);

#ifdef CONFIG_BLK_DEV_INTEGRITY

bool blk_rq_integrity_dma_map_iter_start(struct request *req,
					 struct device *dma_dev,
					 struct blk_dma_iter *iter);
bool blk_rq_integrity_dma_unmap_iter_start(struct request *req,
					   struct device *dma_dev,
					   struct blk_dma_iter *iter);

#else /* CONFIG_BLK_DEV_INTEGRITY */

static inline bool
blk_rq_integrity_dma_map_iter_start(struct request *req, struct device *dma_dev,
				    struct blk_dma_iter *iter)
{
	iter->status = BLK_STS_NOTSUPP;
	return false;
}

static inline bool blk_rq_integrity_dma_unmap_iter_start(
	struct request *req, struct device *dma_dev, struct blk_dma_iter *iter)
{
	return false;
}

#endif /* CONFIG_BLK_DEV_INTEGRITY */

/**
 * blk_rq_integrity_dma_map_iter_next() - map the next segment of a request's integrity data
 * @req: request
 * @dma_dev: device
 * @iter: the segment at hand, moved on
 *
 * Return: true if there is one, else why not is in &blk_dma_iter.status.
 */
static inline bool blk_rq_integrity_dma_map_iter_next(struct request *req,
						      struct device *dma_dev,
						      struct blk_dma_iter *iter)
{
	return blk_rq_dma_map_iter_next(req, dma_dev, NULL, iter);
}

#endif /* _LINUX_BLK_MQ_DMA_H */
