// SPDX-License-Identifier: GPL-2.0
/*
 * Copyright (c) 2026 The Twostep authors
 *
 * KUnit tests of the two-step DMA core: QEMU devices that do DMA on command.
 *
 * A driver takes them while a suite runs: behind some IOMMUs only a driver's probe gives a
 * device its domain.
 *
 * A writer finishes inside the read of its trigger register, so what it answers is what
 * the IOMMU did with that one store: there is nothing to wait for. It is a bus master
 * whatever its command register says. A mover works from a timer and obeys it.
 *
 * A store that the IOMMU refuses is reported by the IOMMU driver as an error in the kernel
 * log, where it would end a run. Where a test provokes it, console messages of that level
 * are held back from expect_faults_begin() to expect_faults_end(), which waits until
 * every CPU has taken its interrupts. Lock debugging and taint still tell of real trouble.
 */

#include <linux/console.h>
#include <linux/delay.h>
#include <linux/dma-mapping.h>
#include <linux/iommu.h>
#include <linux/ktime.h>
#include <linux/pci.h>
#include <linux/workqueue.h>

#include "dma-iova-test.h"
#include "dma-iova.h"

#define WRITER_VENDOR PCI_VENDOR_ID_REDHAT
#define WRITER_DEVICE 0x0005 /* shared with pci-testdev */
#define WRITER_TRIGGER 0x00 /* read: do it */
#define WRITER_IOVA_LOW 0x04
#define WRITER_IOVA_HIGH 0x08
#define WRITER_LEN 0x0c
#define WRITER_RESULT 0x10
#define WRITER_ARM 0x14
#define WRITER_PHYS_LOW 0x1c
#define WRITER_PHYS_HIGH 0x20
#define WRITER_STORED 0
#define WRITER_REFUSED 0xdead0002

#define MOVER_VENDOR 0x1234
#define MOVER_DEVICE 0x11e8
#define MOVER_SOURCE 0x80
#define MOVER_TARGET 0x88
#define MOVER_COUNT 0x90
#define MOVER_COMMAND 0x98
#define MOVER_RUN BIT(0)
#define MOVER_TO_MEMORY BIT(1)
#define MOVER_BUFFER 0x40000
#define MOVER_SECONDS 20

struct test_devices test_devices;

static DEFINE_MUTEX(faults_lock);
static unsigned int faults_expected;
static int console_level;

/* Told from pci-testdev, which has the same ID, by a register that keeps what it is given. */
static bool is_writer(const struct test_device *device)
{
	iowrite32(0x5a5a0ff0, device->bar + WRITER_LEN);
	return ioread32(device->bar + WRITER_LEN) == 0x5a5a0ff0;
}

static struct test_device *free_slot(struct pci_dev *pdev)
{
	if (pdev->vendor == MOVER_VENDOR)
		return test_devices.nr_movers < TEST_MOVERS ?
			       &test_devices.movers[test_devices.nr_movers] :
			       NULL;
	return test_devices.nr_writers < TEST_WRITERS ?
		       &test_devices.writers[test_devices.nr_writers] :
		       NULL;
}

/* Only the last of its kind may go before the suite ends. */
static void test_remove(struct pci_dev *pdev)
{
	if (pdev->vendor == MOVER_VENDOR)
		test_devices.nr_movers--;
	else
		test_devices.nr_writers--;
}

static int test_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	struct test_device *device = free_slot(pdev);
	int ret;

	if (!device)
		return -ENODEV;
	ret = pcim_enable_device(pdev);
	if (ret)
		return ret;
	pci_set_master(pdev);
	ret = dma_set_mask_and_coherent(&pdev->dev, DMA_BIT_MASK(64));
	if (ret)
		return ret;
	device->bar = pcim_iomap(pdev, 0, 0);
	if (!device->bar)
		return -ENODEV;
	device->pdev = pdev;
	device->dev = &pdev->dev;
	device->domain = iommu_get_domain_for_dev(device->dev);
	mutex_init(&device->lock);
	if (pdev->vendor == MOVER_VENDOR)
		test_devices.nr_movers++;
	else if (is_writer(device))
		test_devices.nr_writers++;
	else
		return -ENODEV;
	return 0;
}

static const struct pci_device_id test_ids[] = {
	{ PCI_DEVICE(WRITER_VENDOR, WRITER_DEVICE) },
	{ PCI_DEVICE(MOVER_VENDOR, MOVER_DEVICE) },
	{}
};

static struct pci_driver test_driver = {
	.name = "dma_iova_test",
	.id_table = test_ids,
	.probe = test_probe,
	.remove = test_remove,
};

static void sort_writers(void)
{
	struct test_device *writers = test_devices.writers;
	unsigned int i, j, same;

	for (i = 0; i < test_devices.nr_writers; i++) {
		if (!writers[i].domain)
			continue;
		same = 0;
		for (j = 0; j < test_devices.nr_writers; j++)
			if (j != i && writers[j].domain == writers[i].domain)
				same++;
		if (!same && !test_devices.alone)
			test_devices.alone = &writers[i];
		if (same && !test_devices.pair &&
		    i + 1 < test_devices.nr_writers &&
		    writers[i + 1].domain == writers[i].domain)
			test_devices.pair = &writers[i];
	}
}

/**
 * test_devices_get() - take the devices that no other driver has; suite_init of every suite
 * @suite: not used
 *
 * Return: 0 or an error. 0 also without any device: the tests then skip.
 */
int test_devices_get(struct kunit_suite *suite)
{
	const struct iommu_run_ops *ops;
	int ret;

	memset(&test_devices, 0, sizeof(test_devices));
	debug_dma_iova_quiet(true);
	ret = pci_register_driver(&test_driver);
	if (ret)
		return ret;
	sort_writers();
	if (test_devices.nr_writers && test_devices.writers[0].domain) {
		ops = test_devices.writers[0].domain->ops->run_ops;
		test_devices.tables = ops && ops->map_runs;
	}
	return 0;
}

/**
 * test_devices_put() - give the devices back; suite_exit of every suite
 * @suite: not used
 */
void test_devices_put(struct kunit_suite *suite)
{
	pci_unregister_driver(&test_driver);
	debug_dma_iova_quiet(false);
}

/**
 * writer_stores() - have a device store WRITER_WORD over and over
 * @writer: the device
 * @iova: where
 * @phys: where that shall be in memory
 * @len: bytes
 *
 * Return: 0 if all of it arrived at @phys, which the caller cleared before; -EACCES if the
 * IOMMU refused; -EIO if it went elsewhere.
 */
int writer_stores(struct test_device *writer, dma_addr_t iova, phys_addr_t phys,
		  u32 len)
{
	u32 result;

	mutex_lock(&writer->lock);
	iowrite32(lower_32_bits(iova), writer->bar + WRITER_IOVA_LOW);
	iowrite32(upper_32_bits(iova), writer->bar + WRITER_IOVA_HIGH);
	iowrite32(lower_32_bits(phys), writer->bar + WRITER_PHYS_LOW);
	iowrite32(upper_32_bits(phys), writer->bar + WRITER_PHYS_HIGH);
	iowrite32(len, writer->bar + WRITER_LEN);
	iowrite32(1, writer->bar + WRITER_ARM);
	ioread32(writer->bar + WRITER_TRIGGER);
	result = ioread32(writer->bar + WRITER_RESULT);
	mutex_unlock(&writer->lock);
	if (result == WRITER_STORED)
		return 0;
	return result == WRITER_REFUSED ? -EACCES : -EIO;
}

/**
 * mover_copies() - have a device copy between memory and its own 4 KiB
 * @mover: the device
 * @iova: where in memory
 * @offset: where in its buffer
 * @len: bytes
 * @to_memory: the way
 *
 * Return: whether it finished in time. It does not say whether the IOMMU let it.
 */
bool mover_copies(struct test_device *mover, dma_addr_t iova, u32 offset,
		  u32 len, bool to_memory)
{
	ktime_t end = ktime_add_ms(ktime_get(), MOVER_SECONDS * MSEC_PER_SEC);
	u64 here = MOVER_BUFFER + offset;
	bool busy;

	mutex_lock(&mover->lock);
	writeq(to_memory ? here : iova, mover->bar + MOVER_SOURCE);
	writeq(to_memory ? iova : here, mover->bar + MOVER_TARGET);
	writeq(len, mover->bar + MOVER_COUNT);
	writeq(MOVER_RUN | (to_memory ? MOVER_TO_MEMORY : 0),
	       mover->bar + MOVER_COMMAND);
	while ((busy = readq(mover->bar + MOVER_COMMAND) & MOVER_RUN) &&
	       ktime_before(ktime_get(), end))
		usleep_range(1000, 2000);
	mutex_unlock(&mover->lock);
	return !busy;
}

/**
 * expect_faults_begin() - the IOMMU will refuse something on purpose
 */
void expect_faults_begin(void)
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

static void take_interrupts(struct work_struct *unused)
{
}

/**
 * expect_faults_end() - what was to be refused has been, and was reported
 */
void expect_faults_end(void)
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
