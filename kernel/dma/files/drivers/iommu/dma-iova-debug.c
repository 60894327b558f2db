// SPDX-License-Identifier: GPL-2.0
/*
 * Copyright (c) 2026 The Twostep authors
 *
 * dma-debug for two-step ranges (CONFIG_DMA_IOVA_DEBUG): what a driver does wrong with a
 * range is reported with the device, the range and the bytes.
 *
 *	leaked		the driver of a PCI device went and left a range
 *	linked twice	a link over what is linked (it failed with -EEXIST)
 *	outside		IOVAs of no range that this device reserved
 *	freed linked	a range given back with something linked in it
 *
 * A range has the spans linked in it, as a driver linked them, cut where a part was
 * unlinked. IOVAs name a range within a domain; devices of one group share it.
 *
 * One lock for all of it: this is for debugging. When memory runs out, checking ends; with
 * dma_debug=off it never begins.
 */

#define pr_fmt(fmt) "DMA-API: " fmt

#include <linux/device.h>
#include <linux/init.h>
#include <linux/interval_tree.h>
#include <linux/iommu.h>
#include <linux/pci.h>
#include <linux/slab.h>
#include <linux/spinlock.h>

#include "dma-iova.h"

/**
 * struct debug_range - a reserved range
 * @node: its first and last IOVA, rounded out to granules
 * @domain: whose IOVAs
 * @dev: who reserved it
 * @linked: struct interval_tree_node of its own for each span linked
 */
struct debug_range {
	struct interval_tree_node node;
	struct iommu_domain *domain;
	struct device *dev;
	struct rb_root_cached linked;
};

static DEFINE_SPINLOCK(debug_lock);
static struct rb_root_cached debug_ranges = RB_ROOT_CACHED; /* debug_lock */
static bool debug_off; /* debug_lock */
static bool debug_quiet; /* debug_lock */
static u64 debug_reports[DMA_IOVA_NR_REPORTS]; /* debug_lock */

static const char *const report_names[] = {
	[DMA_IOVA_LEAKED] = "left behind by its driver",
	[DMA_IOVA_LINKED_TWICE] = "linked twice",
	[DMA_IOVA_OUTSIDE] = "used, but not reserved by this device",
	[DMA_IOVA_FREED_LINKED] = "freed while linked",
};

static void report(struct device *dev, enum dma_iova_report what,
		   unsigned long start, unsigned long last)
{
	lockdep_assert_held(&debug_lock);
	if (debug_off)
		return;
	debug_reports[what]++;
	if (!debug_quiet)
		dev_WARN(dev, "DMA-API: two-step IOVA [%lx, %lx] %s\n", start,
			 last, report_names[what]);
}

/**
 * debug_dma_iova_reported() - how often something was reported
 * @what: kind of report
 *
 * Return: since boot.
 */
u64 debug_dma_iova_reported(enum dma_iova_report what)
{
	guard(spinlock_irqsave)(&debug_lock);
	return debug_reports[what];
}

/**
 * debug_dma_iova_quiet() - count reports without a warning, for tests that provoke them
 * @quiet: whether
 */
void debug_dma_iova_quiet(bool quiet)
{
	guard(spinlock_irqsave)(&debug_lock);
	debug_quiet = quiet;
}

static void *debug_alloc(size_t size)
{
	void *memory = NULL;

	lockdep_assert_held(&debug_lock);
	if (debug_off)
		return NULL;
	memory = kzalloc(size, GFP_ATOMIC | __GFP_NOWARN);
	if (!memory) {
		pr_warn("two-step ranges are not checked any more: no memory\n");
		debug_off = true;
	}
	return memory;
}

static struct debug_range *find_range(struct device *dev, unsigned long start,
				      unsigned long last)
{
	struct iommu_domain *domain = iommu_get_dma_domain(dev);
	struct interval_tree_node *node;
	struct debug_range *range;

	lockdep_assert_held(&debug_lock);
	for (node = interval_tree_iter_first(&debug_ranges, start, last); node;
	     node = interval_tree_iter_next(node, start, last)) {
		range = container_of(node, struct debug_range, node);
		if (range->domain == domain && range->dev == dev &&
		    node->start <= start && last <= node->last)
			return range;
	}
	return NULL;
}

void debug_dma_iova_reserve(struct device *dev,
			    const struct dma_iova_state *state)
{
	struct debug_range *range;

	guard(spinlock_irqsave)(&debug_lock);
	range = debug_alloc(sizeof(*range));
	if (!range)
		return;
	range->node.start = ALIGN_DOWN(state->addr, PAGE_SIZE);
	range->node.last = PAGE_ALIGN(state->addr + dma_iova_size(state)) - 1;
	range->domain = iommu_get_dma_domain(dev);
	range->dev = dev;
	range->linked = RB_ROOT_CACHED;
	interval_tree_insert(&range->node, &debug_ranges);
}

static void forget_range(struct debug_range *range)
{
	struct interval_tree_node *node;

	lockdep_assert_held(&debug_lock);
	while ((node = interval_tree_iter_first(&range->linked, 0,
						ULONG_MAX))) {
		interval_tree_remove(node, &range->linked);
		kfree(node);
	}
	interval_tree_remove(&range->node, &debug_ranges);
	kfree(range);
}

void debug_dma_iova_free(struct device *dev, const struct dma_iova_state *state)
{
	unsigned long last = state->addr + dma_iova_size(state) - 1;
	struct interval_tree_node *node;
	struct debug_range *range;

	guard(spinlock_irqsave)(&debug_lock);
	range = find_range(dev, state->addr, last);
	if (!range) {
		report(dev, DMA_IOVA_OUTSIDE, state->addr, last);
		return;
	}
	node = interval_tree_iter_first(&range->linked, 0, ULONG_MAX);
	if (node)
		report(dev, DMA_IOVA_FREED_LINKED, node->start, node->last);
	forget_range(range);
}

void debug_dma_iova_link(struct device *dev, unsigned long start,
			 unsigned long end)
{
	struct interval_tree_node *node;
	struct debug_range *range;

	guard(spinlock_irqsave)(&debug_lock);
	range = find_range(dev, start, end - 1);
	if (!range) {
		report(dev, DMA_IOVA_OUTSIDE, start, end - 1);
		return;
	}
	node = debug_alloc(sizeof(*node));
	if (!node)
		return;
	node->start = start;
	node->last = end - 1;
	interval_tree_insert(node, &range->linked);
}

void debug_dma_iova_link_failed(struct device *dev, unsigned long start,
				unsigned long end, int error)
{
	if (error != -EEXIST)
		return;
	guard(spinlock_irqsave)(&debug_lock);
	report(dev, DMA_IOVA_LINKED_TWICE, start, end - 1);
}

/* Take [start, last] out of a span that overlaps it. */
static void cut_linked(struct debug_range *range,
		       struct interval_tree_node *node, unsigned long start,
		       unsigned long last)
{
	unsigned long old_last = node->last;
	struct interval_tree_node *rest;

	interval_tree_remove(node, &range->linked);
	if (old_last > last) {
		rest = node->start < start ? debug_alloc(sizeof(*rest)) : node;
		if (rest && rest != node) {
			rest->start = last + 1;
			rest->last = old_last;
			interval_tree_insert(rest, &range->linked);
		}
		if (rest == node) {
			node->start = last + 1;
			interval_tree_insert(node, &range->linked);
			return;
		}
	}
	if (node->start < start) {
		node->last = start - 1;
		interval_tree_insert(node, &range->linked);
	} else {
		kfree(node);
	}
}

void debug_dma_iova_unlink(struct device *dev, unsigned long start,
			   unsigned long end)
{
	struct interval_tree_node *node;
	struct debug_range *range;

	guard(spinlock_irqsave)(&debug_lock);
	range = find_range(dev, start, end - 1);
	if (!range) {
		report(dev, DMA_IOVA_OUTSIDE, start, end - 1);
		return;
	}
	while ((node = interval_tree_iter_first(&range->linked, start,
						end - 1)))
		cut_linked(range, node, start, end - 1);
}

/* A driver that goes has given its ranges back. */
static int driver_gone(struct notifier_block *notifier, unsigned long action,
		       void *data)
{
	struct interval_tree_node *node, *next;
	struct debug_range *range;
	struct device *dev = data;

	if (action != BUS_NOTIFY_UNBOUND_DRIVER)
		return 0;
	guard(spinlock_irqsave)(&debug_lock);
	for (node = interval_tree_iter_first(&debug_ranges, 0, ULONG_MAX); node;
	     node = next) {
		next = interval_tree_iter_next(node, 0, ULONG_MAX);
		range = container_of(node, struct debug_range, node);
		if (range->dev != dev)
			continue;
		report(dev, DMA_IOVA_LEAKED, node->start, node->last);
		forget_range(range);
	}
	return 0;
}

static int __init debug_dma_iova_param(char *value)
{
	if (value && !strncmp(value, "off", 3))
		debug_off = true;
	return 0;
}
early_param("dma_debug", debug_dma_iova_param);

static struct notifier_block driver_notifier = {
	.notifier_call = driver_gone,
};

static int __init debug_dma_iova_init(void)
{
	return bus_register_notifier(&pci_bus_type, &driver_notifier);
}
device_initcall(debug_dma_iova_init);
