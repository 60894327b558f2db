/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Copyright (c) 2026 The Twostep authors
 *
 * What the parts of umem ODP share. For drivers there is rdma/ib_umem_odp.h.
 */
#ifndef _UMEM_ODP_PRIVATE_H
#define _UMEM_ODP_PRIVATE_H

#include <linux/align.h>
#include <linux/bits.h>
#include <rdma/ib_umem_odp.h>

/* umem_odp_dma.c: how devices address the pages. */
int ib_umem_odp_probe(struct ib_device *ibdev);
int ib_umem_odp_reserve(struct ib_umem_odp *odp, unsigned long start,
			size_t size);
void ib_umem_odp_unreserve(struct ib_umem_odp *odp);
dma_addr_t ib_umem_odp_address(struct ib_umem_odp *odp, unsigned long addr,
			       u64 word);

/* umem_odp_runs.c */
void ib_umem_odp_zap_runs(struct ib_umem_odp *odp,
			  struct hmm_mirror_iter *pages);

/* umem_odp_stats.c: umems that are counted together. */
void ib_umem_odp_set_init(struct ib_umem_odp_set *set);
void ib_umem_odp_count(struct ib_umem_odp *odp);
void ib_umem_odp_uncount(struct ib_umem_odp *odp);
bool ib_umem_odp_first_refusal(struct ib_device *ibdev);

#ifdef CONFIG_INFINIBAND_ON_DEMAND_PAGING
int ib_umem_odp_init(void);
void ib_umem_odp_exit(void);
#else
static inline int ib_umem_odp_init(void)
{
	return 0;
}

static inline void ib_umem_odp_exit(void)
{
}
#endif

/**
 * umem_odp_trim() - cut a run to the whole entries in it
 * @run: address, length and DMA address
 * @shift: log2 of the bytes of an entry
 *
 * Return: false if no entry can be filled: the run covers none wholly, or the device does not
 * see the bytes at an entry's border.
 */
static inline bool umem_odp_trim(struct ib_umem_odp_run *run,
				 unsigned int shift)
{
	unsigned long start = ALIGN(run->addr, BIT(shift));
	unsigned long end = ALIGN_DOWN(run->addr + run->len, BIT(shift));

	if (start < run->addr || start >= end)
		return false;
	run->dma += start - run->addr;
	run->addr = start;
	run->len = end - start;
	return !(run->dma & (BIT(shift) - 1));
}

/**
 * umem_odp_widen() - widen a run to whole entries, without those of the run before
 * @run: address and length
 * @last: what the call before made of its run, all zero at first
 * @shift: log2 of the bytes of an entry
 *
 * Runs that share an entry follow each other.
 *
 * Return: false if nothing is left.
 */
static inline bool umem_odp_widen(struct ib_umem_odp_run *run,
				  struct ib_umem_odp_run *last,
				  unsigned int shift)
{
	unsigned long start = ALIGN_DOWN(run->addr, BIT(shift));
	unsigned long end = ALIGN(run->addr + run->len, BIT(shift));

	if (last->len && start == last->addr + last->len - BIT(shift))
		start += BIT(shift);
	if (start >= end)
		return false;
	run->addr = start;
	run->len = end - start;
	*last = *run;
	return true;
}

#endif /* _UMEM_ODP_PRIVATE_H */
