// SPDX-License-Identifier: GPL-2.0
/*
 * Copyright (c) 2026 The Twostep authors
 *
 * One-step mapping by physical address, for drivers that find that dma_iova_try_alloc()
 * says no, whether unmapping does anything, and why a device has no ranges.
 *
 * With DMA_ATTR_MMIO the address is a device's memory and may have no struct page: it is
 * translated, never bounced and never touched by cache maintenance. Without, it is system
 * memory, and the call is dma_map_page() by another name.
 */

#include <linux/dma-direct.h>
#include <linux/dma-iova.h>
#include <linux/dma-map-ops.h>
#include <linux/dma-mapping.h>
#include <linux/export.h>
#include <linux/iommu-dma.h>
#include <linux/swiotlb.h>

/**
 * dma_map_phys() - map physically contiguous bytes for one device
 * @dev: device
 * @phys: physical address of the first byte
 * @size: bytes
 * @dir: who writes
 * @attrs: DMA_ATTR_*
 *
 * Context: any.
 * Return: the DMA address, DMA_MAPPING_ERROR if it cannot be mapped.
 */
dma_addr_t dma_map_phys(struct device *dev, phys_addr_t phys, size_t size,
			enum dma_data_direction dir, unsigned long attrs)
{
	if (attrs & DMA_ATTR_MMIO)
		return dma_map_resource(dev, phys, size, dir,
					attrs & ~DMA_ATTR_MMIO);
	return dma_map_page_attrs(dev, pfn_to_page(PHYS_PFN(phys)),
				  offset_in_page(phys), size, dir, attrs);
}
EXPORT_SYMBOL_GPL(dma_map_phys);

/**
 * dma_unmap_phys() - undo dma_map_phys()
 * @dev: device
 * @addr: what it returned
 * @size: as mapped
 * @dir: as mapped
 * @attrs: as mapped
 *
 * Context: any.
 */
void dma_unmap_phys(struct device *dev, dma_addr_t addr, size_t size,
		    enum dma_data_direction dir, unsigned long attrs)
{
	if (attrs & DMA_ATTR_MMIO)
		dma_unmap_resource(dev, addr, size, dir,
				   attrs & ~DMA_ATTR_MMIO);
	else
		dma_unmap_page_attrs(dev, addr, size, dir, attrs);
}
EXPORT_SYMBOL_GPL(dma_unmap_phys);

/**
 * dma_need_unmap() - whether a device's mappings must be unmapped
 * @dev: device
 *
 * Ask after mapping: the first bounce turns a device's answer from no to yes.
 *
 * Return: false if unmapping would do nothing, so that the addresses need not be kept.
 */
bool dma_need_unmap(struct device *dev)
{
	return use_dma_iommu(dev) || get_dma_ops(dev) || dma_dev_need_sync(dev);
}
EXPORT_SYMBOL_GPL(dma_need_unmap);

/**
 * dma_iova_no_range() - why a device that is not behind an IOMMU has no ranges
 * @dev: device
 *
 * Return: -ENODEV if it reaches all memory directly, -EOPNOTSUPP if it must bounce or does not
 * snoop the CPU's caches.
 */
int dma_iova_no_range(struct device *dev)
{
	if (is_swiotlb_force_bounce(dev) || dma_addressing_limited(dev) ||
	    !dev_is_dma_coherent(dev))
		return -EOPNOTSUPP;
	return -ENODEV;
}
EXPORT_SYMBOL_GPL(dma_iova_no_range);
