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
#include <linux/iommu.h>
#include <linux/pci.h>

#include "odp_test.h"

#define STORER_DEVICE 0x0005 /* iommu-testdev, and pci-testdev */
#define STORER_TRIGGER 0x00 /* read: do it */
#define STORER_IOVA_LOW 0x04
#define STORER_IOVA_HIGH 0x08
#define STORER_LEN 0x0c
#define STORER_RESULT 0x10
#define STORER_ARM 0x14
#define STORER_PHYS_LOW 0x1c
#define STORER_PHYS_HIGH 0x20
#define STORER_STORED 0
#define STORER_REFUSED 0xdead0002

#define EDU_VENDOR 0x1234
#define EDU_DEVICE 0x11e8

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

static void remove(struct odp_test_device *device)
{
	ib_unregister_device(&device->ibdev);
	ib_dealloc_device(&device->ibdev);
}

/* Told from pci-testdev, which has the same ID, by a register that keeps what it is given. */
static bool can_store(void __iomem *bar)
{
	iowrite32(0x5a5a0ff0, bar + STORER_LEN);
	return ioread32(bar + STORER_LEN) == 0x5a5a0ff0;
}

static int probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	struct odp_test_device *device;
	void __iomem *bar;
	int ret;

	if (real_device)
		return -ENODEV;
	ret = pcim_enable_device(pdev);
	if (ret)
		return ret;
	pci_set_master(pdev);
	ret = dma_set_mask_and_coherent(&pdev->dev, DMA_BIT_MASK(64));
	if (ret)
		return ret;
	bar = pcim_iomap(pdev, 0, 0);
	if (!bar)
		return -ENODEV;
	if (pdev->device == STORER_DEVICE && !can_store(bar))
		return -ENODEV;
	device = add(pdev);
	if (IS_ERR(device))
		return PTR_ERR(device);
	if (pdev->device == STORER_DEVICE)
		device->bar = bar;
	real_device = device;
	return 0;
}

static void unprobe(struct pci_dev *pdev)
{
	remove(real_device);
	real_device = NULL;
}

static const struct pci_device_id ids[] = {
	{ PCI_DEVICE(PCI_VENDOR_ID_REDHAT, STORER_DEVICE) },
	{ PCI_DEVICE(EDU_VENDOR, EDU_DEVICE) },
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
 * odp_test_device() - one of the devices
 * @virt: the one with virtual DMA
 *
 * Return: the device, or NULL if this machine has no PCI function for it.
 */
struct odp_test_device *odp_test_device(bool virt)
{
	return virt ? virt_device : real_device;
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
 * Return: 0; -EACCES if the IOMMU refused; -EIO if it went elsewhere; -EOPNOTSUPP if the
 * function cannot.
 */
int odp_test_dma_store(struct odp_test_device *device, dma_addr_t dma,
		       phys_addr_t phys)
{
	void __iomem *bar = device->bar;
	u32 result;

	if (!bar)
		return -EOPNOTSUPP;
	mutex_lock(&device->lock);
	iowrite32(lower_32_bits(dma), bar + STORER_IOVA_LOW);
	iowrite32(upper_32_bits(dma), bar + STORER_IOVA_HIGH);
	iowrite32(lower_32_bits(phys), bar + STORER_PHYS_LOW);
	iowrite32(upper_32_bits(phys), bar + STORER_PHYS_HIGH);
	iowrite32(4, bar + STORER_LEN);
	iowrite32(1, bar + STORER_ARM);
	ioread32(bar + STORER_TRIGGER);
	result = ioread32(bar + STORER_RESULT);
	mutex_unlock(&device->lock);
	if (result == STORER_STORED)
		return 0;
	return result == STORER_REFUSED ? -EACCES : -EIO;
}
