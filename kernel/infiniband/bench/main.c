// SPDX-License-Identifier: GPL-2.0
/*
 * Copyright (c) 2026 The Twostep authors
 *
 * umem_bench: what memory for on-demand paging costs in this kernel, in instructions.
 *
 * It calls what an RDMA driver calls: ib_umem_odp_get(), _map_dma_and_lock(),
 * _unmap_dma_pages(), _release(), which all kernels have under these names. The device is
 * one of QEMU's edu devices, which has no driver, behind the IOMMU; no DMA happens. The
 * memory is that of the process that writes the command.
 *
 * Its commands (command.h says how they are given); those with a range tell "INSTRUCTIONS
 * PAGES FIXED": the bytes that the umem holds in the kernel afterwards, for pages and anyway:
 *
 * register ADDRESS BYTES
 * fault ADDRESS BYTES		bring all pages in for writing
 * invalidate ADDRESS BYTES	take all pages out
 * release
 * cycle ADDRESS BYTES		register, fault all of it in, release
 *
 * -EOPNOTSUPP says that this kernel cannot.
 *
 * The calls may sleep, so interrupts stay on: whoever measures takes the smallest of some
 * rounds.
 */
#include <linux/iommu.h>
#include <linux/kernel.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/string.h>
#include <rdma/ib_verbs.h>

#include "clock.h"
#include "command.h"
#include "kernels.h"

struct bench_device {
	struct ib_device ibdev;
};

/* The commands' lock protects all. */
static struct pci_dev *edu;
static struct bench_device *device;
static struct ib_umem_odp *odp;

/* What a driver does that has nothing to zap. */
static bool invalidate(struct mmu_interval_notifier *notifier,
		       const struct mmu_notifier_range *range,
		       unsigned long seq)
{
	struct ib_umem_odp *umem = umem_of(notifier);

	if (!mmu_notifier_range_blockable(range))
		return false;
	lock_umem(umem);
	mmu_interval_set_seq(notifier, seq);
	ib_umem_odp_unmap_dma_pages(umem,
				    max(range->start, ib_umem_start(umem)),
				    min(range->end, ib_umem_end(umem)));
	unlock_umem(umem);
	return true;
}

static const struct mmu_interval_notifier_ops notifier_ops = {
	.invalidate = invalidate,
};

static int do_register(unsigned long addr, size_t size)
{
	const int access = IB_ACCESS_ON_DEMAND | IB_ACCESS_LOCAL_WRITE;
	struct ib_umem_odp *umem;

	umem = ib_umem_odp_get(&device->ibdev, addr, size, access,
			       &notifier_ops);
	if (IS_ERR(umem))
		return PTR_ERR(umem);
	set_zap(umem);
	odp = umem;
	return 0;
}

static int do_fault(unsigned long addr, size_t size)
{
	int pages, err;

	pages = ib_umem_odp_map_dma_and_lock(odp, addr, size, WRITABLE, true);
	if (pages < 0)
		return pages;
	err = pages == size >> PAGE_SHIFT ? map_faulted(odp, addr, size) : -EIO;
	unlock_faulted(odp);
	return err;
}

static int do_invalidate(unsigned long addr, size_t size)
{
	lock_umem(odp);
	ib_umem_odp_unmap_dma_pages(odp, addr, addr + size);
	unlock_umem(odp);
	return 0;
}

static int do_release(void)
{
	ib_umem_odp_release(odp);
	odp = NULL;
	return 0;
}

static int do_cycle(unsigned long addr, size_t size)
{
	int err = do_register(addr, size);

	if (err)
		return err;
	err = do_fault(addr, size);
	do_release();
	return err;
}

static int timed(int (*what)(unsigned long addr, size_t size),
		 unsigned long addr, size_t size)
{
	u64 start = bench_clock();
	int err = what(addr, size);
	u64 end = bench_clock();

	if (!err)
		bench_say("%llu %zu %zu\n", bench_elapsed(start, end),
			  odp ? bytes_for_pages(odp) : 0, sizeof(*odp));
	return err;
}

static int with_range(const char *name, unsigned long addr, size_t size)
{
	if (!strcmp(name, "register") || !strcmp(name, "cycle")) {
		if (odp)
			return -EBUSY;
		if (!can_register(size))
			return -EOPNOTSUPP;
		return timed(*name == 'r' ? do_register : do_cycle, addr, size);
	}
	if (!odp || addr < ib_umem_start(odp) || addr > ib_umem_end(odp) ||
	    size > ib_umem_end(odp) - addr)
		return -EINVAL;
	if (!strcmp(name, "fault"))
		return timed(do_fault, addr, size);
	if (!strcmp(name, "invalidate"))
		return timed(do_invalidate, addr, size);
	return -EINVAL;
}

static int command(char **words, unsigned int nr)
{
	unsigned long addr, size;

	if (nr == 1 && !strcmp(words[0], "release"))
		return odp ? do_release() : -EINVAL;
	if (nr != 3 || kstrtoul(words[1], 0, &addr) ||
	    kstrtoul(words[2], 0, &size))
		return -EINVAL;
	return with_range(words[0], addr, size);
}

static int __init bench_init(void)
{
	edu = bench_edu_get(0);
	if (!edu)
		return -ENODEV;
	device = ib_alloc_device(bench_device, ibdev);
	if (!device) {
		pci_dev_put(edu);
		return -ENOMEM;
	}
	/* Never registered: nobody but us knows of it. */
	device->ibdev.dma_device = &edu->dev;
	bench_commands_add("umem_bench", command);
	return 0;
}

static void __exit bench_exit(void)
{
	bench_commands_remove();
	if (odp)
		do_release();
	ib_dealloc_device(&device->ibdev);
	pci_dev_put(edu);
}

module_init(bench_init);
module_exit(bench_exit);

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("What memory for on-demand paging costs, in instructions");
