/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Copyright (c) 2026 The Twostep authors
 *
 * How nvme-pci makes a request's memory known to the controller: see pci-dma.c.
 */
#ifndef _NVME_PCI_DMA_H
#define _NVME_PCI_DMA_H

#include <linux/blk-mq.h>
#include <linux/dma-iova.h>
#include <linux/sizes.h>

#include "nvme.h"

/*
 * What limits a request beside the controller (MDTS): the lists of its descriptors, counted
 * below, are kept in the request. NVME_MAX_SEGS is the worst case of NVME_MAX_BYTES, pages
 * that are all apart and start unaligned: neither memory for a scatterlist nor the IOVA
 * allocator's cache of small sizes limit anything.
 */
#define NVME_MAX_BYTES SZ_8M
#define NVME_MAX_SEGS (NVME_MAX_BYTES / NVME_CTRL_PAGE_SIZE + 1)

/* Integrity segments: with the descriptor that points to theirs, one small list. */
#define NVME_MAX_META_SEGS 15

/* A list's last entry points to the next list, if there is one. */
#define NVME_LIST_PRPS (NVME_CTRL_PAGE_SIZE / sizeof(__le64))
#define NVME_LIST_SGES (NVME_CTRL_PAGE_SIZE / sizeof(struct nvme_sgl_desc))
#define NVME_SMALL_LIST_SIZE 256
#define NVME_SMALL_LIST_PRPS (NVME_SMALL_LIST_SIZE / sizeof(__le64))
#define NVME_SMALL_LIST_SGES \
	(NVME_SMALL_LIST_SIZE / sizeof(struct nvme_sgl_desc))
#define NVME_MAX_LISTS DIV_ROUND_UP(NVME_MAX_SEGS - 1, NVME_LIST_SGES - 1)

/**
 * struct nvme_dma - what a controller's requests are mapped with
 * @dev: the PCI function
 * @ctrl: the controller
 * @list_pool: lists of a page
 * @small_pool: lists of NVME_SMALL_LIST_SIZE, for requests that need no more
 */
struct nvme_dma {
	struct device *dev;
	struct nvme_ctrl *ctrl;
	struct dma_pool *list_pool;
	struct dma_pool *small_pool;
};

/**
 * struct nvme_dma_req - how a request is mapped; meaningful while it is
 * @iova: its IOVA range, if it has one
 * @addr: DMA address of its first byte
 * @len: bytes, if all of it is one mapping of ordinary memory at @addr; else 0
 * @nr_lists: lists of descriptors it has
 * @small: its only list is a small one
 * @sgl: it is described with SGL descriptors, not with PRPs
 * @list_addr: DMA address of the first list; those of the others are in the lists
 * @lists: the lists
 * @meta_addr: DMA address of the integrity data, or of @meta_list
 * @meta_list: SGL of the integrity data, NULL if it is one segment at @meta_addr
 */
struct nvme_dma_req {
	struct dma_iova_state iova;
	dma_addr_t addr;
	u32 len;
	u8 nr_lists;
	bool small;
	bool sgl;
	dma_addr_t list_addr;
	void *lists[NVME_MAX_LISTS];
	dma_addr_t meta_addr;
	struct nvme_sgl_desc *meta_list;
};

int nvme_dma_create(struct nvme_dma *dma, struct nvme_ctrl *ctrl);
void nvme_dma_destroy(struct nvme_dma *dma);
void nvme_dma_set_limits(struct nvme_ctrl *ctrl, struct device *dev);

blk_status_t nvme_dma_map_data(struct nvme_dma *dma, struct request *req,
			       struct nvme_dma_req *map);
void nvme_dma_unmap_data(struct nvme_dma *dma, struct request *req,
			 struct nvme_dma_req *map);
blk_status_t nvme_dma_map_metadata(struct nvme_dma *dma, struct request *req,
				   struct nvme_dma_req *map);
void nvme_dma_sync_metadata(struct nvme_dma *dma, struct request *req,
			    const struct nvme_dma_req *map);
void nvme_dma_unmap_metadata(struct nvme_dma *dma, struct request *req,
			     struct nvme_dma_req *map);

#endif /* _NVME_PCI_DMA_H */
