/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Copyright (c) 2026 The Twostep authors
 *
 * Where the kernels that are measured differ: the lock of a umem, the names of rights, who
 * maps the pages that a fault found, and what a umem holds of memory.
 */
#ifndef UMEM_BENCH_KERNELS_H
#define UMEM_BENCH_KERNELS_H

#include <linux/hmm.h>
#ifdef BENCH_DMA_MAP
#include <linux/dma-mapping.h>
#include <linux/hmm-dma.h>
#include <linux/pci-p2pdma.h>
#endif
#include <rdma/ib_umem_odp.h>

#ifdef BENCH_ODP_BITS
#define WRITABLE (ODP_READ_ALLOWED_BIT | ODP_WRITE_ALLOWED_BIT)
#else
#define WRITABLE (HMM_PFN_VALID | HMM_PFN_WRITE)
#endif

#ifdef BENCH_MIRROR

/* Constant, whatever the length. */
static inline bool can_register(size_t size)
{
	return true;
}

static inline struct ib_umem_odp *
umem_of(struct mmu_interval_notifier *notifier)
{
	return container_of(notifier, struct ib_umem_odp, mirror.notifier);
}

static inline void lock_umem(struct ib_umem_odp *umem)
{
	ib_umem_odp_lock(umem);
}

static inline void unlock_umem(struct ib_umem_odp *umem)
{
	ib_umem_odp_unlock(umem);
}

static inline void unlock_faulted(struct ib_umem_odp *umem)
{
	ib_umem_odp_unlock_shared(umem);
}

/* The fault did: the driver looks where its entries lead, run by run. */
static inline int map_faulted(struct ib_umem_odp *umem, unsigned long addr,
			      size_t size)
{
	struct ib_umem_odp_iter iter;
	struct ib_umem_odp_run run;
	size_t bytes = 0;

	ib_umem_odp_runs(&iter, umem, addr, addr + size);
	while (ib_umem_odp_next_run(&iter, &run))
		bytes += run.len;
	return bytes == size ? 0 : -EIO;
}

/* What is left of a driver's zap without a device: it looks which entries are to go. */
static inline void zap_nothing(struct ib_umem_odp *umem,
			       struct ib_umem_odp_iter *runs)
{
	struct ib_umem_odp_run run;

	while (ib_umem_odp_next_run(runs, &run))
		;
}

static inline void set_zap(struct ib_umem_odp *umem)
{
	umem->zap = zap_nothing;
}

static inline size_t bytes_for_pages(struct ib_umem_odp *umem)
{
	size_t bytes;

	ib_umem_odp_lock_shared(umem);
	bytes = hmm_mirror_bytes(&umem->mirror);
	ib_umem_odp_unlock_shared(umem);
	return bytes;
}

#else

/* The driver's invalidate zaps before it unmaps; there is nothing to zap. */
static inline void set_zap(struct ib_umem_odp *umem)
{
}

/* One array, of 8 bytes a page, must be smaller than 2 GiB: a larger one is a WARN. */
static inline bool can_register(size_t size)
{
	return size >> PAGE_SHIFT <= INT_MAX / sizeof(u64);
}

static inline struct ib_umem_odp *
umem_of(struct mmu_interval_notifier *notifier)
{
	return container_of(notifier, struct ib_umem_odp, notifier);
}

static inline void lock_umem(struct ib_umem_odp *umem)
{
	mutex_lock(&umem->umem_mutex);
}

static inline void unlock_umem(struct ib_umem_odp *umem)
{
	mutex_unlock(&umem->umem_mutex);
}

static inline void unlock_faulted(struct ib_umem_odp *umem)
{
	mutex_unlock(&umem->umem_mutex);
}

/* In mainline the driver maps, page by page, while it fills its table. */
static inline int map_faulted(struct ib_umem_odp *umem, unsigned long addr,
			      size_t size)
{
#ifdef BENCH_DMA_MAP
	struct device *dev = umem->umem.ibdev->dma_device;
	size_t first = (addr - ib_umem_start(umem)) >> umem->page_shift;
	struct pci_p2pdma_map_state state = {};
	dma_addr_t dma;
	size_t i;

	for (i = 0; i < size >> umem->page_shift; i++) {
		dma = hmm_dma_map_pfn(dev, &umem->map, first + i, &state);
		if (dma_mapping_error(dev, dma))
			return -EIO;
	}
#endif
	return 0;
}

/* The arrays that it has. */
static inline size_t bytes_for_pages(struct ib_umem_odp *umem)
{
	size_t entry;

#ifdef BENCH_DMA_MAP
	entry = sizeof(*umem->map.pfn_list) +
		(umem->map.dma_list ? sizeof(*umem->map.dma_list) : 0);
#else
	entry = sizeof(*umem->pfn_list) + sizeof(*umem->dma_list);
#endif
	return ib_umem_odp_num_pages(umem) * entry;
}

#endif

#endif
