// SPDX-License-Identifier: GPL-2.0
/*
 * Copyright (c) 2026 The Twostep authors
 *
 * The commands of a measuring module, and the device it measures with.
 *
 * "clock" is a command of every module: it calibrates, and fails with -ERANGE if the clock
 * does not count instructions.
 */
#include <linux/debugfs.h>
#include <linux/dma-mapping.h>
#include <linux/iommu.h>
#include <linux/kernel.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#include "clock.h"
#include "command.h"

#define VENDOR 0x1234
#define DEVICE 0x11e8

/* Protects everything below, and what the commands work on. */
static DEFINE_MUTEX(lock);
static bench_command_fn *run_command;
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

/* The NUMBERth of QEMU's edu devices: without a driver, behind an IOMMU. NULL if it is not. */
struct pci_dev *bench_edu_get(unsigned int number)
{
	struct pci_dev *found = NULL;

	do {
		found = pci_get_device(VENDOR, DEVICE, found);
		if (!found)
			return NULL;
	} while (number--);
	if (found->dev.driver || !device_iommu_mapped(&found->dev) ||
	    iommu_get_domain_for_dev(&found->dev)->type ==
		    IOMMU_DOMAIN_IDENTITY ||
	    dma_set_mask_and_coherent(&found->dev, DMA_BIT_MASK(64))) {
		pci_dev_put(found);
		return NULL;
	}
	return found;
}

static int parse_and_run(char *line)
{
	char *words[BENCH_WORDS] = {};
	unsigned int nr = 0;

	for (line = strim(line); line && *line; nr++) {
		if (nr == BENCH_WORDS)
			return -EINVAL;
		words[nr] = strsep(&line, " ");
	}
	if (nr == 1 && !strcmp(words[0], "clock"))
		return bench_calibrate();
	return nr ? run_command(words, nr) : -EINVAL;
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

void bench_commands_add(const char *name, bench_command_fn *command)
{
	run_command = command;
	folder = debugfs_create_dir(name, NULL);
	debugfs_create_file("run", 0200, folder, NULL, &run_file);
	debugfs_create_file("results", 0400, folder, NULL, &results_file);
}

/* Returns when no command runs any more. */
void bench_commands_remove(void)
{
	debugfs_remove(folder);
}
