// SPDX-License-Identifier: GPL-2.0
/*
 * Copyright (c) 2026 The Twostep authors
 *
 * Runs of an on-demand paging umem, in whole entries of the device.
 *
 * To fill entries: pages that are present are joined as long as their rights are equal and
 * the device sees them one after the other, which behind an IOMMU they always are, however
 * scattered in memory. Of an entry that is larger than a page either all pages are in one
 * run, or it is a hole.
 *
 * To zap entries: the pages come from the mirror, an entry goes if any page in it does, and
 * is named once.
 */

#include <linux/export.h>
#include <linux/mm.h>

#include "umem_odp.h"

/**
 * ib_umem_odp_runs() - walk the runs of a part of a umem, to fill the device's entries
 * @iter: out: the walk, for ib_umem_odp_next_run()
 * @umem_odp: the umem, its lock held at least shared until the walk is over
 * @start: first user address
 * @end: user address behind the last byte
 *
 * Entries that are in no run are holes. Neither address need be at an entry's border; entries
 * that lie in the part only partly are not walked.
 */
void ib_umem_odp_runs(struct ib_umem_odp_iter *iter,
		      struct ib_umem_odp *umem_odp, unsigned long start,
		      unsigned long end)
{
	u64 same = PFN_TAG_ACCESS | PFN_TAG_KIND;
	u64 want = PFN_TAG_READ;

	if (umem_odp->way != IB_UMEM_ODP_VIRT)
		want |= PFN_TAG_MAPPED;
	if (umem_odp->way != IB_UMEM_ODP_IOVA)
		same |= PFN_TAG_PFN;
	*iter = (struct ib_umem_odp_iter){ .odp = umem_odp };
	iter->pages = &iter->own;
	hmm_mirror_runs(&iter->own, &umem_odp->mirror, start, end, want, same);
}
EXPORT_SYMBOL_GPL(ib_umem_odp_runs);

static bool next_to_zap(struct ib_umem_odp_iter *iter,
			struct ib_umem_odp_run *run)
{
	struct hmm_mirror_run pages;

	while (hmm_mirror_next_run(iter->pages, &pages)) {
		*run = (struct ib_umem_odp_run){
			.addr = pages.addr,
			.len = pages.nr << PAGE_SHIFT,
		};
		if (umem_odp_widen(run, &iter->last, iter->odp->page_shift))
			return true;
	}
	return false;
}

/**
 * ib_umem_odp_next_run() - the next run of a walk
 * @iter: the walk, from ib_umem_odp_runs() or as a driver's zap got it
 * @run: out: the run
 *
 * Return: false at the end.
 */
bool ib_umem_odp_next_run(struct ib_umem_odp_iter *iter,
			  struct ib_umem_odp_run *run)
{
	struct hmm_mirror_run pages;

	if (iter->zap)
		return next_to_zap(iter, run);
	while (hmm_mirror_next_run(iter->pages, &pages)) {
		run->addr = pages.addr;
		run->len = pages.nr << PAGE_SHIFT;
		run->dma =
			ib_umem_odp_address(iter->odp, pages.addr, pages.word);
		run->access = pages.word & PFN_TAG_ACCESS;
		if (umem_odp_trim(run, iter->odp->page_shift))
			return true;
	}
	return false;
}
EXPORT_SYMBOL_GPL(ib_umem_odp_next_run);

/**
 * ib_umem_odp_zap_runs() - have the driver zap pages that are about to go
 * @odp: the umem, its lock held exclusively
 * @pages: which
 */
void ib_umem_odp_zap_runs(struct ib_umem_odp *odp,
			  struct hmm_mirror_iter *pages)
{
	struct ib_umem_odp_iter iter = {
		.odp = odp,
		.pages = pages,
		.zap = true,
	};

	ib_umem_odp_assert_locked(odp);
	if (odp->zap)
		odp->zap(odp, &iter);
}
