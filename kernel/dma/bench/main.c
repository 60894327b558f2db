// SPDX-License-Identifier: GPL-2.0
/*
 * Copyright (c) 2026 The Twostep authors
 *
 * dma_bench: what DMA mapping costs in this kernel, in instructions.
 *
 * It drives no device. It takes QEMU's edu devices that have no driver as something that is
 * behind an IOMMU and in a group of its own, and maps memory for them; no DMA happens. Each
 * has IOVAs of its own, so that one series of measures leaves nothing behind for the next.
 *
 * Its commands (command.h says how they are given):
 *
 * device N			measure with the Nth edu device from now on
 * time WAY SHAPE		link and unlink, a line "LINK UNLINK" each round
 * open WAY SHAPE, link, unlink, close	the same in steps, for who counts events
 * replace SIZE LIVE		a line a round: "SUM COUNT WORST" of reserve, then of free
 * churn LIVE			the same with mixed sizes
 *
 * -EOPNOTSUPP says that this kernel has no such thing.
 */
#include <linux/kernel.h>
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/string.h>

#include "bench.h"
#include "command.h"

/* The commands' lock protects it, and the state of a job. */
static struct pci_dev *edu;

static int take_device(unsigned int number)
{
	struct pci_dev *found = bench_edu_get(number);

	if (!found)
		return -ENODEV;
	pci_dev_put(edu);
	edu = found;
	return 0;
}

static int on_device(char **words, unsigned int nr)
{
	unsigned int live;

	if (!edu)
		return -ENODEV;
	if (!strcmp(words[0], "time") && nr == 3)
		return bench_pages_time(&edu->dev, words[1], words[2]);
	if (!strcmp(words[0], "open") && nr == 3)
		return bench_pages_open(&edu->dev, words[1], words[2]);
	if (!strcmp(words[0], "replace") && nr == 3 &&
	    !kstrtouint(words[2], 10, &live))
		return bench_ranges_replace(&edu->dev, words[1], live);
	if (!strcmp(words[0], "churn") && nr == 2 &&
	    !kstrtouint(words[1], 10, &live))
		return bench_ranges_churn(&edu->dev, live);
	return -EINVAL;
}

static int command(char **words, unsigned int nr)
{
	unsigned int number;

	if (!strcmp(words[0], "device") && nr == 2 &&
	    !kstrtouint(words[1], 10, &number))
		return take_device(number);
	if (!strcmp(words[0], "link") && nr == 1)
		return bench_pages_link();
	if (!strcmp(words[0], "unlink") && nr == 1)
		return bench_pages_unlink();
	if (!strcmp(words[0], "close") && nr == 1) {
		bench_pages_close();
		return 0;
	}
	return on_device(words, nr);
}

static int __init bench_init(void)
{
	bench_commands_add("dma_bench", command);
	return 0;
}

static void __exit bench_exit(void)
{
	bench_commands_remove();
	bench_pages_close();
	pci_dev_put(edu);
}

module_init(bench_init);
module_exit(bench_exit);

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("What DMA mapping costs, in instructions");
