// SPDX-License-Identifier: GPL-2.0
/*
 * Copyright (c) 2026 The Twostep authors
 *
 * A driver that uses two-step DMA mapping, for QEMU's "edu" device: it reserves
 * 1 GiB of IOVA, links one page somewhere in it, has the device read the page's
 * first word and write it back behind itself, unlinks and frees. A probe that
 * succeeds has seen the word arrive.
 */
#include <linux/dma-mapping.h>
#include <linux/iopoll.h>
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/sizes.h>

#define EDU_BUFFER 0x40000
#define EDU_SOURCE 0x80
#define EDU_TARGET 0x88
#define EDU_COUNT 0x90
#define EDU_COMMAND 0x98
#define EDU_START BIT(0)
#define EDU_TO_MEMORY BIT(1)

static int edu_copy(void __iomem *edu, u64 source, u64 target, u32 command)
{
	writeq(source, edu + EDU_SOURCE);
	writeq(target, edu + EDU_TARGET);
	writeq(sizeof(u32), edu + EDU_COUNT);
	writeq(command | EDU_START, edu + EDU_COMMAND);
	return readq_poll_timeout(edu + EDU_COMMAND, command,
				  !(command & EDU_START), USEC_PER_MSEC,
				  10 * USEC_PER_SEC);
}

/* [example] */
static int use_memory(struct device *dev, void __iomem *edu, struct page *page)
{
	u64 word = pfn_tag(page_to_pfn(page), PFN_TAG_READ | PFN_TAG_WRITE,
			   PFN_KIND_REGULAR);
	struct dma_iova_state state = {};
	const size_t offset = SZ_512M;
	size_t done;
	int ret;

	/* Once, when the memory becomes known: no page is touched. */
	ret = dma_iova_reserve(dev, &state, 0, SZ_2M, SZ_1G);
	if (ret)
		return ret;

	/* When a page is needed: writes and syncs its entry, sets MAPPED. */
	ret = dma_iova_link_pfns(dev, &state, offset, &word, 1, &done,
				 GFP_KERNEL);
	if (ret)
		goto err_free;

	ret = edu_copy(edu, state.addr + offset, EDU_BUFFER, 0);
	if (!ret)
		ret = edu_copy(edu, EDU_BUFFER, state.addr + offset + 4,
			       EDU_TO_MEMORY);

	/* When the page goes: afterwards the device cannot reach it. */
	dma_iova_unlink_pfns(dev, &state, offset, &word, 1);
err_free:
	dma_iova_free(dev, &state);
	return ret;
}

/* [example] */

static int edu_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	struct page *page;
	void __iomem *edu;
	u32 *words;
	int ret;

	ret = pcim_enable_device(pdev) ?:
		      dma_set_mask_and_coherent(&pdev->dev, DMA_BIT_MASK(64));
	if (ret)
		return ret;
	pci_set_master(pdev);
	edu = pcim_iomap(pdev, 0, 0);
	page = alloc_page(GFP_KERNEL | __GFP_ZERO);
	if (!edu || !page) {
		ret = -ENOMEM;
		goto out_free;
	}

	words = page_address(page);
	words[0] = get_random_u32() | 1;
	ret = use_memory(&pdev->dev, edu, page);
	if (!ret && words[1] != words[0])
		ret = -EIO;
	if (!ret)
		pci_info(pdev, "%08x went through a linked page\n", words[1]);
out_free:
	if (page)
		__free_page(page);
	return ret;
}

static const struct pci_device_id edu_ids[] = {
	{ PCI_DEVICE(0x1234, 0x11e8) },
	{},
};
MODULE_DEVICE_TABLE(pci, edu_ids);

static struct pci_driver edu_driver = {
	.name = "dma-iova-example",
	.id_table = edu_ids,
	.probe = edu_probe,
};
module_pci_driver(edu_driver);

MODULE_DESCRIPTION("Two-step DMA mapping on QEMU's edu device");
MODULE_LICENSE("GPL");
