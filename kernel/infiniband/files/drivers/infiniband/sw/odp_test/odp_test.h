/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Copyright (c) 2026 The Twostep authors
 *
 * A device for tests of on-demand paging: what its parts share.
 *
 * The device has for each region a table of entries: an xarray from entry number to DMA
 * address and rights. Its lock is the device's pulse: an access to memory is made with
 * it held, and zapping an entry takes it, so that after a zap the device is done with the
 * page. An access goes where the IOMMU's own table leads, so an entry that outlives its
 * page is an access to memory that is somebody else's, as with a real device.
 *
 * Where there is one, QEMU's iommu-testdev can be told to store through its entry itself:
 * then the IOTLB and the rights in the IOMMU's table are at work.
 */
#ifndef _ODP_TEST_H
#define _ODP_TEST_H

#include <linux/completion.h>
#include <linux/mutex.h>
#include <linux/refcount.h>
#include <linux/xarray.h>
#include <rdma/ib_umem_odp.h>
#include <rdma/ib_verbs.h>

#include "odp_test_abi.h"

struct pci_dev;

/**
 * struct odp_test_device - one of our two devices
 * @ibdev: for the RDMA core
 * @pdev: whose DMA addresses it has, or NULL: virtual DMA
 * @bar: the PCI function's registers, if it can store, or NULL
 * @lock: serialises its commands
 * @users: the regions, and the PCI driver until its remove
 * @unused: when @users are none any more
 */
struct odp_test_device {
	struct ib_device ibdev;
	struct pci_dev *pdev;
	void __iomem *bar;
	struct mutex lock; /* registers, trigger, result */
	refcount_t users;
	struct completion unused;
};

/**
 * struct odp_test_mr - a memory region
 * @device: of which
 * @odp: its umem
 * @table: entry number to DMA address and rights, as an xarray value
 * @nowhere: where a store does not go
 */
struct odp_test_mr {
	struct odp_test_device *device;
	struct ib_umem_odp *odp;
	struct xarray table;
	u64 nowhere;
};

/* device.c */
int odp_test_devices_add(void);
void odp_test_devices_remove(void);
struct odp_test_device *odp_test_device_get(bool virt);
struct odp_test_device *odp_test_device_hold(struct odp_test_device *device);
void odp_test_device_put(struct odp_test_device *device);
phys_addr_t odp_test_translate(struct odp_test_device *device, dma_addr_t dma);
int odp_test_dma_store(struct odp_test_device *device, dma_addr_t dma,
		       phys_addr_t phys);

/* region.c */
struct odp_test_mr *odp_test_mr_create(struct odp_test_region *region,
				       struct odp_test_mr *parent);
void odp_test_mr_destroy(struct odp_test_mr *mr);
int odp_test_mr_fault(struct odp_test_mr *mr, struct odp_test_fault *fault);
int odp_test_mr_look(struct odp_test_mr *mr, u64 address, size_t nr,
		     struct odp_test_page *pages);
int odp_test_mr_access(struct odp_test_mr *mr, struct odp_test_access *access);

#endif /* _ODP_TEST_H */
