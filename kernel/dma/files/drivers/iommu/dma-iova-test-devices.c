// SPDX-License-Identifier: GPL-2.0
/*
 * Copyright (c) 2026 The Twostep authors
 *
 * KUnit tests of the two-step DMA core: QEMU devices that do DMA on command.
 *
 * A driver takes them while a suite runs: behind some IOMMUs only a driver's probe gives a
 * device its domain.
 *
 * A writer's store is done when the call returns (linux/iommu-testdev.h). A mover works from a
 * timer, and obeys its command register's bus master bit.
 */

#include <linux/delay.h>
#include <linux/io.h>
#include <linux/iommu-testdev.h>
#include <linux/iommu.h>
#include <linux/ktime.h>
#include <linux/pci.h>

#include "dma-iova-test.h"
#include "dma-iova.h"

#define MOVER_SOURCE 0x80
#define MOVER_TARGET 0x88
#define MOVER_COUNT 0x90
#define MOVER_COMMAND 0x98
#define MOVER_RUN BIT(0)
#define MOVER_TO_MEMORY BIT(1)
#define MOVER_BUFFER 0x40000
#define MOVER_SECONDS 20

struct test_devices test_devices;

static struct test_device *free_slot(struct pci_dev *pdev)
{
	if (pdev->vendor == QEMU_EDU_VENDOR)
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
	if (pdev->vendor == QEMU_EDU_VENDOR)
		test_devices.nr_movers--;
	else
		test_devices.nr_writers--;
}

static int test_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	struct test_device *device = free_slot(pdev);

	if (!device)
		return -ENODEV;
	device->bar = iommu_testdev_map(pdev);
	if (IS_ERR(device->bar))
		return PTR_ERR(device->bar);
	device->pdev = pdev;
	device->dev = &pdev->dev;
	device->domain = iommu_get_domain_for_dev(device->dev);
	mutex_init(&device->lock);
	if (pdev->vendor == QEMU_EDU_VENDOR)
		test_devices.nr_movers++;
	else
		test_devices.nr_writers++;
	return 0;
}

static const struct pci_device_id test_ids[] = {
	{ PCI_DEVICE(IOMMU_TESTDEV_VENDOR, IOMMU_TESTDEV_DEVICE) },
	{ PCI_DEVICE(QEMU_EDU_VENDOR, QEMU_EDU_DEVICE) },
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
 * writer_stores() - have a device store IOMMU_TESTDEV_WORD over and over
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
	int ret;

	mutex_lock(&writer->lock);
	ret = iommu_testdev_store(writer->bar, iova, phys, len);
	mutex_unlock(&writer->lock);
	return ret;
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
