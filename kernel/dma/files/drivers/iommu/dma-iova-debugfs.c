// SPDX-License-Identifier: GPL-2.0
/*
 * Copyright (c) 2026 The Twostep authors
 *
 * What the two-step DMA core did, and how to make its steps fail.
 *
 * debugfs dma_iova/counters has one "name value" line per counter, in a fixed order, summed
 * over the CPUs: exact once the calls being counted returned. table_bytes is memory in I/O
 * page tables, of all users of all IOMMUs.
 *
 * debugfs fail_dma_iova (CONFIG_FAULT_INJECTION) has the usual knobs of a fault attribute
 * and seams: a bit mask of enum dma_iova_seam that may fail, all at first.
 */

#include <linux/debugfs.h>
#include <linux/fault-inject.h>
#include <linux/init.h>
#include <linux/mm.h>
#include <linux/seq_file.h>
#include <linux/vmstat.h>

#include "dma-iova.h"

DEFINE_PER_CPU(struct dma_iova_counters, dma_iova_counters);

static const char *const event_names[] = {
	[DMA_IOVA_RESERVES] = "reserves",
	[DMA_IOVA_FREES] = "frees",
	[DMA_IOVA_LINKS] = "links",
	[DMA_IOVA_RUNS] = "runs",
	[DMA_IOVA_PAGES] = "pages",
	[DMA_IOVA_UNLINKS] = "unlinks",
	[DMA_IOVA_IOMMU_CALLS] = "iommu_calls",
	[DMA_IOVA_SYNCS] = "syncs",
	[DMA_IOVA_FLUSHES] = "flushes",
	[DMA_IOVA_WIDENED] = "widened",
};

static_assert(ARRAY_SIZE(event_names) == DMA_IOVA_NR_EVENTS);

/**
 * dma_iova_counted() - a counter's sum over the CPUs
 * @event: which
 *
 * Return: how often it happened since boot.
 */
u64 dma_iova_counted(enum dma_iova_event event)
{
	u64 sum = 0;
	int cpu;

	for_each_possible_cpu(cpu)
		sum += per_cpu(dma_iova_counters, cpu).events[event];
	return sum;
}

static int counters_show(struct seq_file *seq, void *unused)
{
	enum dma_iova_event event;

	for (event = 0; event < DMA_IOVA_NR_EVENTS; event++)
		seq_printf(seq, "%s %llu\n", event_names[event],
			   dma_iova_counted(event));
	seq_printf(seq, "table_bytes %lu\n",
		   global_node_page_state(NR_IOMMU_PAGES) << PAGE_SHIFT);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(counters);

#ifdef CONFIG_FAULT_INJECTION
static DECLARE_FAULT_ATTR(fail_dma_iova);
static u32 fail_seams = ~0;

/**
 * dma_iova_fails() - whether a step is to fail now
 * @seam: the step
 *
 * Return: true if fault injection chose it.
 */
bool dma_iova_fails(enum dma_iova_seam seam)
{
	return fail_seams & BIT(seam) && should_fail(&fail_dma_iova, 1);
}

static void __init seams_init(void)
{
	struct dentry *dir;

	dir = fault_create_debugfs_attr("fail_dma_iova", NULL, &fail_dma_iova);
	if (!IS_ERR(dir))
		debugfs_create_x32("seams", 0600, dir, &fail_seams);
}
#else
static void __init seams_init(void)
{
}
#endif

static int __init dma_iova_debugfs_init(void)
{
	struct dentry *dir = debugfs_create_dir("dma_iova", NULL);

	debugfs_create_file("counters", 0400, dir, NULL, &counters_fops);
	seams_init();
	return 0;
}
late_initcall(dma_iova_debugfs_init);
