// SPDX-License-Identifier: GPL-2.0
/*
 * Copyright (c) 2026 The Twostep authors
 *
 * How devices address the pages of an on-demand paging umem (rdma/ib_umem_odp.h).
 *
 * IOVA. The range is reserved with the umem, congruent to the user address modulo 2 MiB, so
 * that a huge page takes one entry of the I/O page table. Pages are linked with the rights
 * their words have, by blocks; a call that links several says up to where it came, and the
 * words behind that are not linked. Unlinking ends with one IOTLB flush.
 *
 * DIRECT. Linking only checks that the device reaches the page. There is nothing to undo, so
 * the DMA address is computed and never booked with the DMA API: a mapping of it that is
 * not taken back page by page would be a leak to dma-debug.
 *
 * VIRT. No linking at all.
 *
 * A device is asked once, at registration. The kernel says in one line per device why it was
 * refused.
 */

#include <linux/dma-direct.h>
#include <linux/dma-iova.h>
#include <linux/dma-map-ops.h>
#include <linux/iommu-dma.h>
#include <linux/iommu-runs.h>
#include <linux/iommu.h>
#include <linux/mm.h>
#include <rdma/ib_verbs.h>

#include "umem_odp.h"

static struct ib_umem_odp *mirror_to_odp(struct hmm_mirror *mirror)
{
	return container_of(mirror, struct ib_umem_odp, mirror);
}

static struct device *odp_dev(const struct ib_umem_odp *odp)
{
	return odp->umem.ibdev->dma_device;
}

static void zap(struct hmm_mirror *mirror, struct hmm_mirror_iter *pages)
{
	ib_umem_odp_zap_runs(mirror_to_odp(mirror), pages);
}

/**
 * struct one_run - an iterator that gives one run
 * @iter: for dma_iova_link_runs()
 * @run: the run
 * @given: whether it was given
 */
struct one_run {
	struct dma_iova_iter iter;
	struct dma_iova_run run;
	bool given;
};

static bool next_one_run(struct dma_iova_iter *iter, struct dma_iova_run *run)
{
	struct one_run *one = container_of(iter, struct one_run, iter);

	if (one->given)
		return false;
	one->given = true;
	*run = one->run;
	return true;
}

static int link_huge(struct ib_umem_odp *odp, unsigned long addr, u64 *word,
		     size_t *done, gfp_t gfp)
{
	struct one_run one = {
		.iter.next = next_one_run,
		.run = {
			.phys = pfn_tag_phys(*word),
			.offset = addr - odp->mirror.start,
			.len = PFN_TABLE_BLOCK_SIZE,
			.access = *word & PFN_TAG_ACCESS,
			.kind = pfn_tag_kind(*word),
		},
	};
	int ret = 0;

	if (pfn_tag_linkable(*word)) {
		ret = dma_iova_link_runs(odp_dev(odp), &odp->iova, &one.iter,
					 gfp);
		if (!ret)
			*word |= PFN_TAG_MAPPED;
	}
	*done = !ret;
	return ret;
}

/*
 * The IOMMU could not make entries visible, and all between the first and the last of them
 * was unlinked: maybe also pages that the device knows from an earlier call. Which
 * these were is not known any more.
 */
static void links_lost(struct ib_umem_odp *odp, unsigned long addr, u64 *words,
		       size_t nr)
{
	struct hmm_mirror_iter pages;
	size_t i;

	hmm_mirror_runs(&pages, &odp->mirror, addr, addr + nr * PAGE_SIZE,
			PFN_TAG_READ, 0);
	ib_umem_odp_zap_runs(odp, &pages);
	for (i = 0; i < nr; i++)
		if (words[i] & PFN_TAG_WRITE && !(words[i] & PFN_TAG_MAPPED))
			words[i] |= PFN_TAG_DIRTY;
}

static int link_iova(struct hmm_mirror *mirror, unsigned long addr, u64 *words,
		     size_t nr, size_t *done, gfp_t gfp)
{
	struct ib_umem_odp *odp = mirror_to_odp(mirror);
	int ret;

	atomic64_inc(&odp->links);
	if (*words & PFN_TAG_HUGE)
		return link_huge(odp, addr, words, done, gfp);
	ret = dma_iova_link_pfns(odp_dev(odp), &odp->iova, addr - mirror->start,
				 words, nr, done, gfp);
	if (unlikely(ret == -EIO))
		links_lost(odp, addr, words, nr);
	return ret;
}

/**
 * struct unlink_iter - runs of a mirror on their way to the DMA core
 * @iter: for dma_iova_unlink_runs()
 * @pages: where they come from
 * @start: user address of the range's first byte
 */
struct unlink_iter {
	struct dma_iova_iter iter;
	struct hmm_mirror_iter *pages;
	unsigned long start;
};

static bool next_unlink_run(struct dma_iova_iter *iter,
			    struct dma_iova_run *run)
{
	struct unlink_iter *unlink =
		container_of(iter, struct unlink_iter, iter);
	struct hmm_mirror_run pages;

	if (!hmm_mirror_next_run(unlink->pages, &pages))
		return false;
	run->offset = pages.addr - unlink->start;
	run->len = pages.nr << PAGE_SHIFT;
	return true;
}

static void unlink_iova(struct hmm_mirror *mirror,
			struct hmm_mirror_iter *pages)
{
	struct ib_umem_odp *odp = mirror_to_odp(mirror);
	struct unlink_iter unlink = {
		.iter.next = next_unlink_run,
		.pages = pages,
		.start = mirror->start,
	};

	atomic64_inc(&odp->unlinks);
	dma_iova_unlink_runs(odp_dev(odp), &odp->iova, &unlink.iter);
}

static const struct hmm_mirror_ops iova_ops = {
	.link = link_iova,
	.unlink = unlink_iova,
	.zap = zap,
	.may_sleep = true,
};

/* A page that came later, such as plugged memory, may be out of the device's reach. */
static int link_direct(struct hmm_mirror *mirror, unsigned long addr,
		       u64 *words, size_t nr, size_t *done, gfp_t gfp)
{
	struct device *dev = odp_dev(mirror_to_odp(mirror));
	size_t size = PAGE_SIZE;

	if (*words & PFN_TAG_HUGE)
		size = PFN_TABLE_BLOCK_SIZE;
	for (*done = 0; *done < nr; ++*done, ++words) {
		if (!pfn_tag_linkable(*words))
			continue;
		if (!dma_capable(dev, phys_to_dma(dev, pfn_tag_phys(*words)),
				 size, true))
			return -EFAULT;
		*words |= PFN_TAG_MAPPED;
	}
	return 0;
}

static void unlink_direct(struct hmm_mirror *mirror,
			  struct hmm_mirror_iter *pages)
{
}

static const struct hmm_mirror_ops direct_ops = {
	.link = link_direct,
	.unlink = unlink_direct,
	.zap = zap,
	.may_sleep = true,
};

static const struct hmm_mirror_ops virt_ops = {};

/**
 * ib_umem_odp_address() - where the device sees a page
 * @odp: the umem, locked
 * @addr: user address of the page
 * @word: its word
 *
 * Return: DMA address.
 */
dma_addr_t ib_umem_odp_address(struct ib_umem_odp *odp, unsigned long addr,
			       u64 word)
{
	switch (odp->way) {
	case IB_UMEM_ODP_IOVA:
		return odp->iova.addr + (addr - odp->mirror.start);
	case IB_UMEM_ODP_DIRECT:
		return phys_to_dma(odp_dev(odp), pfn_tag_phys(word));
	case IB_UMEM_ODP_VIRT:
		break;
	}
	return (uintptr_t)phys_to_virt(pfn_tag_phys(word));
}

/* Why a device that has no IOVAs cannot be given bus addresses, NULL if it can. */
static const char *why_not_direct(struct device *dev)
{
	if (use_dma_iommu(dev))
		return "its IOMMU gives it no addresses";
	if (get_dma_ops(dev))
		return "it has DMA operations of its own";
	/* One run of pages must be one run of addresses. */
	if (dev->dma_range_map && dev->dma_range_map[0].size &&
	    dev->dma_range_map[1].size)
		return "its bus sees memory in pieces";
	return NULL;
}

static int refuse(struct ib_device *ibdev, const char *why)
{
	if (ib_umem_odp_first_refusal(ibdev))
		ibdev_warn(ibdev, "no on-demand paging: %s\n", why);
	return -EOPNOTSUPP;
}

static int reserve(struct ib_device *ibdev, struct dma_iova_state *iova,
		   unsigned long start, size_t size)
{
	struct device *dev = ibdev->dma_device;
	const char *why;
	int ret;

	if (!dev_is_dma_coherent(dev))
		return refuse(ibdev, "it does not snoop CPU caches");
	ret = dma_iova_reserve(dev, iova, start, PMD_SIZE, size);
	if (ret == -EOPNOTSUPP)
		return refuse(ibdev, "it needs bounce buffers");
	if (ret != -ENODEV)
		return ret;
	why = why_not_direct(dev);
	return why ? refuse(ibdev, why) : -ENODEV;
}

/**
 * ib_umem_odp_reserve() - choose the way, and reserve IOVAs
 * @odp: the umem; its mirror is not initialised yet
 * @start: user address of the first page
 * @size: bytes, whole pages
 *
 * Constant in @size.
 *
 * Return: 0; -EOPNOTSUPP if the device is refused; -ENOMEM if it has no IOVAs left.
 */
int ib_umem_odp_reserve(struct ib_umem_odp *odp, unsigned long start,
			size_t size)
{
	struct ib_device *ibdev = odp->umem.ibdev;
	int ret;

	if (ib_uses_virt_dma(ibdev)) {
		odp->way = IB_UMEM_ODP_VIRT;
		odp->mirror.ops = &virt_ops;
		return 0;
	}
	ret = reserve(ibdev, &odp->iova, start, size);
	if (ret == -ENODEV) {
		odp->way = IB_UMEM_ODP_DIRECT;
		odp->mirror.ops = &direct_ops;
		return 0;
	}
	if (ret)
		return ret;
	odp->way = IB_UMEM_ODP_IOVA;
	odp->mirror.ops = &iova_ops;
	odp->mirror.whole_runs = iommu_remembers_requests(
		iommu_get_domain_for_dev(ibdev->dma_device));
	return 0;
}

/**
 * ib_umem_odp_unreserve() - give the IOVAs back
 * @odp: the umem, nothing linked any more
 */
void ib_umem_odp_unreserve(struct ib_umem_odp *odp)
{
	if (dma_use_iova(&odp->iova))
		dma_iova_free(odp_dev(odp), &odp->iova);
}

/**
 * ib_umem_odp_probe() - whether a device can have umems at all
 * @ibdev: the device
 *
 * Return: 0; -EOPNOTSUPP, -ENOMEM.
 */
int ib_umem_odp_probe(struct ib_device *ibdev)
{
	struct dma_iova_state iova = {};
	int ret;

	if (ib_uses_virt_dma(ibdev))
		return 0;
	ret = reserve(ibdev, &iova, 0, PMD_SIZE);
	if (ret == -ENODEV)
		return 0;
	if (!ret)
		dma_iova_free(ibdev->dma_device, &iova);
	return ret;
}
