// SPDX-License-Identifier: GPL-2.0
/*
 * Copyright (c) 2026 The Twostep authors
 *
 * A device for tests of on-demand paging: the RDMA devices and the PCI function.
 *
 * Two RDMA devices are registered: one on the first PCI function of QEMU's that a driver
 * can have, if there is one, and one with virtual DMA. They have a port that is down, and
 * no verbs.
 */

#include <linux/dma-direct.h>
#include <linux/dma-mapping.h>
#include <linux/iommu-testdev.h>
#include <linux/iommu.h>
#include <linux/pci.h>

#include "odp_test.h"

/* Protects the pointers. */
static DEFINE_MUTEX(devices_lock);
static struct odp_test_device *real_device, *virt_device;
static bool pci_registered;

static int query_device(struct ib_device *ibdev, struct ib_device_attr *attr,
			struct ib_udata *udata)
{
	attr->kernel_cap_flags = IBK_ON_DEMAND_PAGING;
	return 0;
}

static int query_port(struct ib_device *ibdev, u32 port,
		      struct ib_port_attr *attr)
{
	attr->state = IB_PORT_DOWN;
	attr->phys_state = IB_PORT_PHYS_STATE_DISABLED;
	attr->gid_tbl_len = 1;
	attr->pkey_tbl_len = 1;
	attr->max_mtu = IB_MTU_1024;
	attr->active_mtu = IB_MTU_1024;
	attr->active_width = IB_WIDTH_1X;
	attr->active_speed = IB_SPEED_SDR;
	return 0;
}

static int get_port_immutable(struct ib_device *ibdev, u32 port,
			      struct ib_port_immutable *immutable)
{
	immutable->gid_tbl_len = 1;
	immutable->pkey_tbl_len = 1;
	return 0;
}

static int query_gid(struct ib_device *ibdev, u32 port, int index,
		     union ib_gid *gid)
{
	memset(gid, 0, sizeof(*gid));
	return 0;
}

static int query_pkey(struct ib_device *ibdev, u32 port, u16 index, u16 *pkey)
{
	*pkey = 0xffff;
	return 0;
}

static enum rdma_link_layer get_link_layer(struct ib_device *ibdev, u32 port)
{
	return IB_LINK_LAYER_UNSPECIFIED;
}

static const struct ib_device_ops ops = {
	.owner = THIS_MODULE,
	.driver_id = RDMA_DRIVER_UNKNOWN,
	.get_link_layer = get_link_layer,
	.get_port_immutable = get_port_immutable,
	.query_device = query_device,
	.query_gid = query_gid,
	.query_pkey = query_pkey,
	.query_port = query_port,
};

static struct odp_test_device *add(struct pci_dev *pdev)
{
	struct odp_test_device *device;
	int ret;

	device = ib_alloc_device(odp_test_device, ibdev);
	if (!device)
		return ERR_PTR(-ENOMEM);
	device->pdev = pdev;
	mutex_init(&device->lock);
	refcount_set(&device->users, 1);
	init_completion(&device->unused);
	device->ibdev.phys_port_cnt = 1;
	device->ibdev.num_comp_vectors = 1;
	device->ibdev.node_type = RDMA_NODE_UNSPECIFIED;
	device->ibdev.dev.parent = pdev ? &pdev->dev : NULL;
	ib_set_device_ops(&device->ibdev, &ops);
	ret = ib_register_device(&device->ibdev, "odp_test%d",
				 pdev ? &pdev->dev : NULL);
	if (ret) {
		ib_dealloc_device(&device->ibdev);
		return ERR_PTR(ret);
	}
	return device;
}

/* Waits for the regions: who removes a device wants their files closed. */
static void remove(struct odp_test_device *device)
{
	odp_test_device_put(device);
	wait_for_completion(&device->unused);
	ib_unregister_device(&device->ibdev);
	ib_dealloc_device(&device->ibdev);
}

static int probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	struct odp_test_device *device;
	void __iomem *bar;

	if (real_device)
		return -ENODEV;
	bar = iommu_testdev_map(pdev);
	if (IS_ERR(bar))
		return PTR_ERR(bar);
	device = add(pdev);
	if (IS_ERR(device))
		return PTR_ERR(device);
	if (pdev->vendor == IOMMU_TESTDEV_VENDOR)
		device->bar = bar;
	mutex_lock(&devices_lock);
	real_device = device;
	mutex_unlock(&devices_lock);
	return 0;
}

static void unprobe(struct pci_dev *pdev)
{
	struct odp_test_device *device = real_device;

	mutex_lock(&devices_lock);
	real_device = NULL;
	mutex_unlock(&devices_lock);
	remove(device);
}

static const struct pci_device_id ids[] = {
	{ PCI_DEVICE(IOMMU_TESTDEV_VENDOR, IOMMU_TESTDEV_DEVICE) },
	{ PCI_DEVICE(QEMU_EDU_VENDOR, QEMU_EDU_DEVICE) },
	{}
};

static struct pci_driver driver = {
	.name = "odp_test",
	.id_table = ids,
	.probe = probe,
	.remove = unprobe,
	.driver.suppress_bind_attrs = true,
};

/**
 * odp_test_devices_add() - register what there is
 *
 * Return: 0 or an error.
 */
int odp_test_devices_add(void)
{
	int ret;

	virt_device = add(NULL);
	if (IS_ERR(virt_device))
		return PTR_ERR(virt_device);
	ret = pci_register_driver(&driver);
	if (ret)
		remove(virt_device);
	pci_registered = !ret;
	return ret;
}

/**
 * odp_test_devices_remove() - the end; no region lives
 */
void odp_test_devices_remove(void)
{
	if (pci_registered)
		pci_unregister_driver(&driver);
	remove(virt_device);
}

/**
 * odp_test_device_get() - one of the devices, kept
 * @virt: the one with virtual DMA
 *
 * Return: the device, or NULL if this machine has no PCI function for it.
 */
struct odp_test_device *odp_test_device_get(bool virt)
{
	struct odp_test_device *device;

	mutex_lock(&devices_lock);
	device = virt ? virt_device : real_device;
	if (device)
		refcount_inc(&device->users);
	mutex_unlock(&devices_lock);
	return device;
}

/**
 * odp_test_device_hold() - keep a device once more
 * @device: kept already
 *
 * Return: the device.
 */
struct odp_test_device *odp_test_device_hold(struct odp_test_device *device)
{
	refcount_inc(&device->users);
	return device;
}

/**
 * odp_test_device_put() - keep a device no more
 * @device: the device
 */
void odp_test_device_put(struct odp_test_device *device)
{
	if (refcount_dec_and_test(&device->users))
		complete(&device->unused);
}

/**
 * odp_test_translate() - where a DMA address leads
 * @device: whose
 * @dma: the address
 *
 * Return: physical address, 0 for nowhere.
 */
phys_addr_t odp_test_translate(struct odp_test_device *device, dma_addr_t dma)
{
	struct iommu_domain *domain;

	if (!device->pdev)
		return virt_to_phys(ib_virt_dma_to_ptr(dma));
	domain = iommu_get_domain_for_dev(&device->pdev->dev);
	if (domain && iommu_is_dma_domain(domain))
		return iommu_iova_to_phys(domain, dma);
	return dma_to_phys(&device->pdev->dev, dma);
}

/**
 * odp_test_dma_store() - have the PCI function store ODP_TEST_DMA_VALUE
 * @device: its RDMA device
 * @dma: where, for it
 * @phys: where that shall be in memory; the word there is another one
 *
 * Return: as iommu_testdev_store(), or -EOPNOTSUPP if the function cannot.
 */
int odp_test_dma_store(struct odp_test_device *device, dma_addr_t dma,
		       phys_addr_t phys)
{
	int ret;

	static_assert(ODP_TEST_DMA_VALUE == IOMMU_TESTDEV_WORD);
	if (!device->bar)
		return -EOPNOTSUPP;
	mutex_lock(&device->lock);
	ret = iommu_testdev_store(device->bar, dma, phys, 4);
	mutex_unlock(&device->lock);
	return ret;
}
