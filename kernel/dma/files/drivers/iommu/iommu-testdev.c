// SPDX-License-Identifier: GPL-2.0
/*
 * Copyright (c) 2026 The Twostep authors
 *
 * QEMU's devices that do DMA on command (linux/iommu-testdev.h).
 */

#include <linux/console.h>
#include <linux/dma-mapping.h>
#include <linux/export.h>
#include <linux/io.h>
#include <linux/iommu-testdev.h>
#include <linux/mutex.h>
#include <linux/pci.h>
#include <linux/workqueue.h>

/* Registers of iommu-testdev. */
#define TRIGGER 0x00 /* read: do it */
#define IOVA_LOW 0x04
#define IOVA_HIGH 0x08
#define LEN 0x0c
#define RESULT 0x10
#define ARM 0x14
#define PHYS_LOW 0x1c
#define PHYS_HIGH 0x20
#define STORED 0
#define REFUSED 0xdead0002

static DEFINE_MUTEX(faults_lock);
static unsigned int faults_expected;
static int console_level;

/* Told from pci-testdev, which has the same ID, by a register that keeps what it is given. */
static bool is_testdev(void __iomem *bar)
{
	iowrite32(0x5a5a0ff0, bar + LEN);
	return ioread32(bar + LEN) == 0x5a5a0ff0;
}

/**
 * iommu_testdev_map() - take one of the devices, in its driver's probe
 * @pdev: iommu-testdev or edu
 *
 * Return: its registers, which go with the driver; -ENODEV if it is another device, or an
 * error.
 */
void __iomem *iommu_testdev_map(struct pci_dev *pdev)
{
	void __iomem *bar;
	int ret;

	ret = pcim_enable_device(pdev);
	if (ret)
		return IOMEM_ERR_PTR(ret);
	pci_set_master(pdev);
	ret = dma_set_mask_and_coherent(&pdev->dev, DMA_BIT_MASK(64));
	if (ret)
		return IOMEM_ERR_PTR(ret);
	bar = pcim_iomap(pdev, 0, 0);
	if (!bar)
		return IOMEM_ERR_PTR(-ENODEV);
	if (pdev->vendor == IOMMU_TESTDEV_VENDOR && !is_testdev(bar))
		return IOMEM_ERR_PTR(-ENODEV);
	return bar;
}
EXPORT_SYMBOL_GPL(iommu_testdev_map);

/**
 * iommu_testdev_store() - have the device store IOMMU_TESTDEV_WORD over and over
 * @bar: the device's registers; the caller lets one at a time do this
 * @iova: where
 * @phys: where that shall be in memory
 * @len: bytes
 *
 * Return: 0 if all of it arrived at @phys, where something else was before; -EACCES if the
 * IOMMU refused; -EIO if it went elsewhere.
 */
int iommu_testdev_store(void __iomem *bar, dma_addr_t iova, phys_addr_t phys,
			u32 len)
{
	u32 result;

	iowrite32(lower_32_bits(iova), bar + IOVA_LOW);
	iowrite32(upper_32_bits(iova), bar + IOVA_HIGH);
	iowrite32(lower_32_bits(phys), bar + PHYS_LOW);
	iowrite32(upper_32_bits(phys), bar + PHYS_HIGH);
	iowrite32(len, bar + LEN);
	iowrite32(1, bar + ARM);
	ioread32(bar + TRIGGER);
	result = ioread32(bar + RESULT);
	if (result == STORED)
		return 0;
	return result == REFUSED ? -EACCES : -EIO;
}
EXPORT_SYMBOL_GPL(iommu_testdev_store);

/**
 * iommu_testdev_faults_begin() - the IOMMU will refuse something on purpose
 */
void iommu_testdev_faults_begin(void)
{
	mutex_lock(&faults_lock);
	if (!faults_expected++) {
		console_lock();
		console_level = console_loglevel;
		console_loglevel = LOGLEVEL_ERR;
		console_unlock();
	}
	mutex_unlock(&faults_lock);
}
EXPORT_SYMBOL_GPL(iommu_testdev_faults_begin);

static void take_interrupts(struct work_struct *unused)
{
}

/**
 * iommu_testdev_faults_end() - what was to be refused has been, and was reported
 */
void iommu_testdev_faults_end(void)
{
	schedule_on_each_cpu(take_interrupts);
	mutex_lock(&faults_lock);
	if (!--faults_expected) {
		console_lock();
		console_loglevel = console_level;
		console_unlock();
	}
	mutex_unlock(&faults_lock);
}
EXPORT_SYMBOL_GPL(iommu_testdev_faults_end);
