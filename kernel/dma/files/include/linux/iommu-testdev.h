/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Copyright (c) 2026 The Twostep authors
 *
 * QEMU's devices that do DMA on command, for tests behind an emulated IOMMU.
 *
 * iommu-testdev stores a known word at an IOVA inside the read of its trigger register, and
 * says whether that reached the physical address that it was also told: what it answers is
 * what the IOMMU did, and there is nothing to wait for. It is a bus master whatever its
 * command register says.
 *
 * A store that the IOMMU refuses is reported by the IOMMU's driver as an error in the
 * kernel log, where it would end a run. Where a test provokes it, console messages of that
 * level are held back from iommu_testdev_faults_begin() to _end(), which waits until every
 * CPU has taken its interrupts. Lock debugging and taint still tell of real trouble.
 */
#ifndef _LINUX_IOMMU_TESTDEV_H
#define _LINUX_IOMMU_TESTDEV_H

#include <linux/pci_ids.h>
#include <linux/types.h>

struct pci_dev;

#define IOMMU_TESTDEV_VENDOR PCI_VENDOR_ID_REDHAT
#define IOMMU_TESTDEV_DEVICE 0x0005 /* shared with pci-testdev */
#define QEMU_EDU_VENDOR 0x1234
#define QEMU_EDU_DEVICE 0x11e8

/* What iommu-testdev stores, a byte at a time from the lowest. */
#define IOMMU_TESTDEV_WORD 0x12345678u

void __iomem *iommu_testdev_map(struct pci_dev *pdev);
int iommu_testdev_store(void __iomem *bar, dma_addr_t iova, phys_addr_t phys,
			u32 len);
void iommu_testdev_faults_begin(void);
void iommu_testdev_faults_end(void);

#endif /* _LINUX_IOMMU_TESTDEV_H */
