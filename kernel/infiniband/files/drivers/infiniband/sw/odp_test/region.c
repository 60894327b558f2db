// SPDX-License-Identifier: GPL-2.0
/*
 * Copyright (c) 2026 The Twostep authors
 *
 * A device for tests of on-demand paging: memory regions, and the device's table.
 *
 * Filling the table happens under the umem's lock, where nothing may wait for memory: an
 * entry that the table has no room for stays a hole, at which the device faults again.
 */

#include <linux/highmem.h>
#include <linux/iommu-testdev.h>
#include <linux/mm.h>
#include <linux/slab.h>

#include "odp_test.h"

#define ENTRY_READ 1
#define ENTRY_WRITE 2
#define ENTRY_RIGHTS (ENTRY_READ | ENTRY_WRITE)

static unsigned long entry_of(const struct ib_umem_odp *odp, unsigned long addr)
{
	return (addr - ib_umem_start(odp)) >> odp->page_shift;
}

/* After this the device is done with the entries. */
static void clear_entries(struct odp_test_mr *mr, unsigned long addr,
			  size_t len)
{
	XA_STATE(xas, &mr->table, entry_of(mr->odp, addr));
	unsigned long last = entry_of(mr->odp, addr + len - 1);
	void *entry;

	xas_lock(&xas);
	xas_for_each(&xas, entry, last)
		xas_store(&xas, NULL);
	xas_unlock(&xas);
}

static void zap(struct ib_umem_odp *odp, struct ib_umem_odp_iter *runs)
{
	struct odp_test_mr *mr = odp->private;
	struct ib_umem_odp_run run;

	while (ib_umem_odp_next_run(runs, &run))
		clear_entries(mr, run.addr, run.len);
}

static void fill_run(struct odp_test_mr *mr, const struct ib_umem_odp_run *run)
{
	unsigned int shift = mr->odp->page_shift;
	unsigned long i, entry;

	for (i = 0; i < run->len >> shift; i++) {
		entry = run->dma + (i << shift);
		if (run->access & PFN_TAG_READ)
			entry |= ENTRY_READ;
		if (run->access & PFN_TAG_WRITE)
			entry |= ENTRY_WRITE;
		xa_store(&mr->table, entry_of(mr->odp, run->addr) + i,
			 xa_mk_value(entry), GFP_NOWAIT | __GFP_NOWARN);
	}
}

/**
 * odp_test_mr_fault() - as if the device had reported a fault
 * @mr: the region
 * @fault: see &struct odp_test_fault
 *
 * Return: 0, or what ib_umem_odp_fault_and_lock() said.
 */
int odp_test_mr_fault(struct odp_test_mr *mr, struct odp_test_fault *fault)
{
	static const enum hmm_mirror_mode modes[] = {
		[ODP_TEST_FAULT] = HMM_MIRROR_FAULT,
		[ODP_TEST_PREFETCH] = HMM_MIRROR_PREFETCH,
		[ODP_TEST_SNAPSHOT] = HMM_MIRROR_SNAPSHOT,
	};
	struct hmm_mirror_fault request = {
		.start = fault->address,
		.end = fault->address + fault->length,
		.access = PFN_TAG_READ,
	};
	struct ib_umem_odp_iter iter;
	struct ib_umem_odp_run run;
	int ret;

	if (fault->mode >= ARRAY_SIZE(modes) || mr->odp->is_implicit_odp)
		return -EINVAL;
	request.mode = modes[fault->mode];
	if (fault->write)
		request.access |= PFN_TAG_WRITE;
	ret = ib_umem_odp_fault_and_lock(mr->odp, &request);
	fault->present = request.present;
	fault->granted = (request.granted & PFN_TAG_READ ? 1 : 0) |
			 (request.granted & PFN_TAG_WRITE ? 2 : 0);
	if (ret)
		return ret;
	/* Who is not zapped has no table. */
	if (mr->odp->way == IB_UMEM_ODP_VIRT)
		goto out;
	clear_entries(mr, request.start, request.end - request.start);
	ib_umem_odp_runs(&iter, mr->odp, request.start, request.end);
	while (ib_umem_odp_next_run(&iter, &run))
		fill_run(mr, &run);
out:
	ib_umem_odp_unlock_shared(mr->odp);
	return 0;
}

static unsigned long page_entry(struct odp_test_mr *mr, unsigned long addr)
{
	unsigned long mask = BIT(mr->odp->page_shift) - 1;
	void *entry = xa_load(&mr->table, entry_of(mr->odp, addr));

	if (!entry)
		return 0;
	return xa_to_value(entry) + (addr & mask & PAGE_MASK);
}

/**
 * odp_test_mr_look() - what is known of some pages
 * @mr: the region
 * @address: user address of the first
 * @nr: how many
 * @pages: out
 *
 * Return: 0; -EINVAL outside the region.
 */
int odp_test_mr_look(struct odp_test_mr *mr, u64 address, size_t nr,
		     struct odp_test_page *pages)
{
	struct ib_umem_odp *odp = mr->odp;
	unsigned long addr;
	size_t i;

	if (odp->is_implicit_odp || !PAGE_ALIGNED(address) ||
	    address < ib_umem_start(odp) || address > ib_umem_end(odp) ||
	    nr > (ib_umem_end(odp) - address) >> PAGE_SHIFT)
		return -EINVAL;
	ib_umem_odp_lock_shared(odp);
	for (i = 0; i < nr; i++) {
		addr = address + i * PAGE_SIZE;
		pages[i] = (struct odp_test_page){
			.word = hmm_mirror_word(&odp->mirror, addr),
			.entry = page_entry(mr, addr),
		};
		if (odp->way == IB_UMEM_ODP_IOVA)
			pages[i].phys = odp_test_translate(
				mr->device,
				odp->iova.addr + addr - ib_umem_start(odp));
	}
	ib_umem_odp_unlock_shared(odp);
	return 0;
}

/* The device's lock is held: the page cannot go. */
static int access_entry(struct odp_test_mr *mr, unsigned long entry,
			struct odp_test_access *access)
{
	bool store = access->flags & ODP_TEST_STORE;
	phys_addr_t phys;
	u64 *at;

	if (!entry)
		return -EFAULT;
	if (!(entry & (store ? ENTRY_WRITE : ENTRY_READ)))
		return -EACCES;
	phys = odp_test_translate(mr->device,
				  (entry & ~ENTRY_RIGHTS) +
					  (access->address & ~PAGE_MASK));
	if (!phys)
		return -EIO;
	at = kmap_local_page(pfn_to_page(PHYS_PFN(phys))) +
	     offset_in_page(phys);
	if (store)
		WRITE_ONCE(*at, access->value);
	else
		access->value = READ_ONCE(*at);
	kunmap_local(at);
	return 0;
}

/* A PCI function asks nobody: the umem's lock keeps the entry and the page. */
static int dma_access(struct odp_test_mr *mr, struct odp_test_access *access)
{
	struct ib_umem_odp *odp = mr->odp;
	unsigned long addr = access->address;
	u64 word, entry;
	int ret = -EFAULT;

	ib_umem_odp_lock_shared(odp);
	word = hmm_mirror_word(&odp->mirror, addr & PAGE_MASK);
	entry = page_entry(mr, addr);
	/* Without an IOMMU nobody else would refuse it. */
	if (entry && odp->way != IB_UMEM_ODP_IOVA && !(entry & ENTRY_WRITE))
		ret = -EACCES;
	else if (entry)
		ret = odp_test_dma_store(
			mr->device,
			(entry & ~ENTRY_RIGHTS) + offset_in_page(addr),
			pfn_tag_phys(word) + offset_in_page(addr));
	ib_umem_odp_unlock_shared(odp);
	return ret;
}

/* The same, whatever the entry says: the IOMMU is to refuse what is not linked for writing. */
static int raw_access(struct odp_test_mr *mr, struct odp_test_access *access)
{
	struct ib_umem_odp *odp = mr->odp;
	unsigned long addr = access->address;
	phys_addr_t phys = virt_to_phys(&mr->nowhere);
	u64 word;
	int ret;

	if (odp->way != IB_UMEM_ODP_IOVA)
		return -EOPNOTSUPP;
	iommu_testdev_faults_begin();
	ib_umem_odp_lock_shared(odp);
	word = hmm_mirror_word(&odp->mirror, addr & PAGE_MASK);
	if (word)
		phys = pfn_tag_phys(word) + offset_in_page(addr);
	ret = odp_test_dma_store(
		mr->device, odp->iova.addr + addr - ib_umem_start(odp), phys);
	ib_umem_odp_unlock_shared(odp);
	iommu_testdev_faults_end();
	return ret;
}

/* Software has no table: it looks words up and books what it wrote. */
static int virt_access(struct odp_test_mr *mr, struct odp_test_access *access)
{
	struct hmm_mirror *mirror = &mr->odp->mirror;
	unsigned long addr = access->address;
	bool store = access->flags & ODP_TEST_STORE;
	u64 word, *at;
	int ret = 0;

	ib_umem_odp_lock_shared(mr->odp);
	word = hmm_mirror_word(mirror, addr);
	if (!word) {
		ret = -EFAULT;
	} else if (store && !(word & PFN_TAG_WRITE)) {
		ret = -EACCES;
	} else {
		at = phys_to_virt(pfn_tag_phys(word) + offset_in_page(addr));
		if (store) {
			WRITE_ONCE(*at, access->value);
			hmm_mirror_written(mirror, addr, sizeof(*at));
		} else {
			access->value = READ_ONCE(*at);
		}
	}
	ib_umem_odp_unlock_shared(mr->odp);
	return ret;
}

/**
 * odp_test_mr_access() - the device reads or writes 8 bytes
 * @mr: the region
 * @access: see &struct odp_test_access
 *
 * Return: 0; -EFAULT without an entry, -EACCES without the right, -EIO if the entry leads
 * nowhere.
 */
int odp_test_mr_access(struct odp_test_mr *mr, struct odp_test_access *access)
{
	struct ib_umem_odp *odp = mr->odp;
	int ret;

	if (odp->is_implicit_odp || access->address % 8 ||
	    access->address < ib_umem_start(odp) ||
	    access->address >= ib_umem_end(odp))
		return -EINVAL;
	if (access->flags & ODP_TEST_RAW)
		return raw_access(mr, access);
	if (access->flags & ODP_TEST_DMA)
		return dma_access(mr, access);
	if (odp->way == IB_UMEM_ODP_VIRT)
		return virt_access(mr, access);
	xa_lock(&mr->table);
	ret = access_entry(mr, page_entry(mr, access->address), access);
	xa_unlock(&mr->table);
	return ret;
}

static struct ib_umem_odp *get_umem(struct odp_test_device *device,
				    struct odp_test_mr *parent,
				    const struct odp_test_region *region)
{
	int access = IB_ACCESS_ON_DEMAND;

	if (region->flags & ODP_TEST_WRITE)
		access |= IB_ACCESS_LOCAL_WRITE;
	if (region->flags & ODP_TEST_HUGETLB)
		access |= IB_ACCESS_HUGETLB;
	if (parent)
		return ib_umem_odp_alloc_child(parent->odp, region->address,
					       region->length, NULL);
	if (region->flags & ODP_TEST_IMPLICIT)
		return ib_umem_odp_alloc_implicit(&device->ibdev, access);
	return ib_umem_odp_get(&device->ibdev, region->address, region->length,
			       access, NULL);
}

/**
 * odp_test_mr_create() - register memory
 * @region: see &struct odp_test_region; its results are filled in
 * @parent: an implicit region to make a child of, or NULL
 *
 * Return: the region, or an error.
 */
struct odp_test_mr *odp_test_mr_create(struct odp_test_region *region,
				       struct odp_test_mr *parent)
{
	struct odp_test_mr *mr;
	int ret;

	if (parent && !parent->odp->is_implicit_odp)
		return ERR_PTR(-EINVAL);
	mr = kzalloc(sizeof(*mr), GFP_KERNEL);
	if (!mr)
		return ERR_PTR(-ENOMEM);
	xa_init(&mr->table);
	ret = -ENODEV;
	/* A parent keeps its device, but a child may outlive it. */
	if (parent)
		mr->device = odp_test_device_hold(parent->device);
	else
		mr->device = odp_test_device_get(region->flags & ODP_TEST_VIRT);
	if (!mr->device)
		goto err_free;
	mr->odp = get_umem(mr->device, parent, region);
	ret = PTR_ERR_OR_ZERO(mr->odp);
	if (ret)
		goto err_put;
	mr->odp->private = mr;
	mr->odp->zap = zap;
	region->page_shift = mr->odp->page_shift;
	region->way = mr->odp->way;
	region->dma = mr->odp->iova.addr;
	return mr;

err_put:
	odp_test_device_put(mr->device);
err_free:
	kfree(mr);
	return ERR_PTR(ret);
}

/**
 * odp_test_mr_destroy() - release memory
 * @mr: the region; nobody uses it
 */
void odp_test_mr_destroy(struct odp_test_mr *mr)
{
	ib_umem_odp_lock(mr->odp);
	mr->odp->zap = NULL;
	ib_umem_odp_unlock(mr->odp);
	xa_destroy(&mr->table);
	ib_umem_odp_release(mr->odp);
	odp_test_device_put(mr->device);
	kfree(mr);
}
