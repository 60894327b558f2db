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
 * A command is a line written to dma_bench/run in debugfs; the write fails as the command
 * does. What it found is then in dma_bench/results:
 *
 * clock			calibrate; -ERANGE if the clock does not count instructions
 * device N			measure with the Nth edu device from now on
 * time WAY SHAPE		link and unlink, a line "LINK UNLINK" each round
 * open WAY SHAPE, link, unlink, close	the same in steps, for who counts events
 * replace SIZE LIVE		a line a round: "SUM COUNT WORST" of reserve, then of free
 * churn LIVE			the same with mixed sizes
 *
 * -EOPNOTSUPP says that this kernel has no such thing.
 */
#include <linux/debugfs.h>
#include <linux/iommu.h>
#include <linux/kernel.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/pci.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#include "bench.h"

#define VENDOR 0x1234
#define DEVICE 0x11e8
#define WORDS 3

/* Protects everything below, and the state of a job. */
static DEFINE_MUTEX(lock);
static struct pci_dev *edu;
static struct dentry *folder;
static char results[4096];
static size_t filled;

void bench_say(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	filled += vscnprintf(results + filled, sizeof(results) - filled, format,
			     arguments);
	va_end(arguments);
}

static int take_device(unsigned int number)
{
	struct pci_dev *found = NULL;

	do {
		found = pci_get_device(VENDOR, DEVICE, found);
		if (!found)
			return -ENODEV;
	} while (number--);
	if (found->dev.driver || !device_iommu_mapped(&found->dev) ||
	    iommu_get_domain_for_dev(&found->dev)->type ==
		    IOMMU_DOMAIN_IDENTITY ||
	    dma_set_mask_and_coherent(&found->dev, DMA_BIT_MASK(64))) {
		pci_dev_put(found);
		return -ENODEV;
	}
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

	if (!strcmp(words[0], "clock") && nr == 1)
		return bench_calibrate();
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

static int parse_and_run(char *line)
{
	char *words[WORDS] = {};
	unsigned int nr = 0;

	for (line = strim(line); line && *line; nr++) {
		if (nr == WORDS)
			return -EINVAL;
		words[nr] = strsep(&line, " ");
	}
	return nr ? command(words, nr) : -EINVAL;
}

static ssize_t run_write(struct file *file, const char __user *from,
			 size_t size, loff_t *at)
{
	char line[64];
	int err;

	if (size >= sizeof(line))
		return -EINVAL;
	if (copy_from_user(line, from, size))
		return -EFAULT;
	line[size] = 0;

	mutex_lock(&lock);
	filled = 0;
	err = parse_and_run(line);
	mutex_unlock(&lock);
	return err ?: size;
}

static ssize_t results_read(struct file *file, char __user *to, size_t size,
			    loff_t *at)
{
	ssize_t copied;

	mutex_lock(&lock);
	copied = simple_read_from_buffer(to, size, at, results, filled);
	mutex_unlock(&lock);
	return copied;
}

static const struct file_operations run_file = {
	.owner = THIS_MODULE,
	.write = run_write,
};

static const struct file_operations results_file = {
	.owner = THIS_MODULE,
	.read = results_read,
};

static int __init bench_init(void)
{
	folder = debugfs_create_dir("dma_bench", NULL);
	debugfs_create_file("run", 0200, folder, NULL, &run_file);
	debugfs_create_file("results", 0400, folder, NULL, &results_file);
	return 0;
}

static void __exit bench_exit(void)
{
	debugfs_remove(folder);
	bench_pages_close();
	pci_dev_put(edu);
}

module_init(bench_init);
module_exit(bench_exit);

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("What DMA mapping costs, in instructions");
