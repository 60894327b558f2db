// SPDX-License-Identifier: GPL-2.0
/*
 * Copyright (c) 2026 The Twostep authors
 *
 * Jobs: memory of a shape, linked and unlinked in a way.
 *
 * A shape is a number of pages, scattered: no two of them are neighbours, and their order is
 * not that of their addresses. Or it is one block of 2 MiB: "2m" is aligned, "2m_offset" begins
 * a page behind the alignment, so that no huge entry fits.
 *
 * A job that is timed is also looked at: after every link the I/O page table must say for
 * every page what was linked, and after every unlink nothing. A measure of a link that did
 * not link fails with -EIO.
 */
#include <linux/gfp.h>
#include <linux/iommu.h>
#include <linux/irqflags.h>
#include <linux/kernel.h>
#include <linux/mm.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include <linux/sort.h>
#include <linux/string.h>

#include "bench.h"
#include "clock.h"
#include "command.h"

#define MAX_PAGES 4096
#define BLOCK_ORDER 9
#define STRIDE 193 /* odd: a permutation of any power of two */

static struct bench_job job;

static int by_pfn(const void *a, const void *b)
{
	unsigned long left = page_to_pfn(*(struct page *const *)a);
	unsigned long right = page_to_pfn(*(struct page *const *)b);

	return left < right ? -1 : left > right;
}

static int allocate_scattered(void)
{
	unsigned int i;

	job.len = PAGE_SIZE;
	job.scattered =
		kvcalloc(2 * job.nr, sizeof(*job.scattered), GFP_KERNEL);
	if (!job.scattered)
		return -ENOMEM;
	for (i = 0; i < 2 * job.nr; i++) {
		job.scattered[i] = alloc_page(GFP_KERNEL);
		if (!job.scattered[i])
			return -ENOMEM;
	}
	sort(job.scattered, 2 * job.nr, sizeof(*job.scattered), by_pfn, NULL);
	for (i = 0; i < job.nr; i++)
		job.phys[i] =
			page_to_phys(job.scattered[2 * (i * STRIDE % job.nr)]);
	return 0;
}

static int allocate_block(bool offset)
{
	job.len = SZ_2M;
	job.order = BLOCK_ORDER + offset;
	job.block = alloc_pages(GFP_KERNEL, job.order);
	if (!job.block)
		return -ENOMEM;
	job.phys[0] = page_to_phys(job.block) + (offset ? PAGE_SIZE : 0);
	return 0;
}

static void free_memory(void)
{
	unsigned int i;

	for (i = 0; job.scattered && i < 2 * job.nr; i++)
		if (job.scattered[i])
			__free_page(job.scattered[i]);
	kvfree(job.scattered);
	if (job.block)
		__free_pages(job.block, job.order);
	kvfree(job.words);
	kvfree(job.pages);
	kvfree(job.addr);
	kvfree(job.phys);
	memset(&job, 0, sizeof(job));
}

/* The same memory in the words of each API. */
static void describe(void)
{
	unsigned int i, each __maybe_unused = job.len / PAGE_SIZE;

	for (i = 0; i < job.nr; i++)
		job.pages[i] = pfn_to_page(PHYS_PFN(job.phys[i]));
#ifdef BENCH_MANY
	for (i = 0; i < job.nr * each; i++)
		job.words[i] = pfn_tag(PHYS_PFN(job.phys[i / each]) + i % each,
				       PFN_TAG_ACCESS, PFN_KIND_REGULAR);
#endif
}

static int allocate(const char *shape)
{
	bool block = !strcmp(shape, "2m"), offset = !strcmp(shape, "2m_offset");
	int err;

	if (block || offset)
		job.nr = 1;
	else if (kstrtouint(shape, 10, &job.nr) || !is_power_of_2(job.nr) ||
		 job.nr > MAX_PAGES)
		return -EINVAL;
	job.phys = kvcalloc(job.nr, sizeof(*job.phys), GFP_KERNEL);
	job.addr = kvcalloc(job.nr, sizeof(*job.addr), GFP_KERNEL);
	job.words = kvcalloc(max(job.nr, 1U << BLOCK_ORDER), sizeof(*job.words),
			     GFP_KERNEL);
	job.pages = kvcalloc(job.nr, sizeof(*job.pages), GFP_KERNEL);
	if (!job.phys || !job.addr || !job.words || !job.pages)
		return -ENOMEM;
	err = block || offset ? allocate_block(offset) : allocate_scattered();
	if (!err)
		describe();
	return err;
}

int bench_pages_open(struct device *dev, const char *way, const char *shape)
{
	int err;

	if (job.way)
		return -EBUSY;
	if (!bench_way(way))
		return -EOPNOTSUPP;
	job.dev = dev;
	err = allocate(shape);
	if (!err && bench_way(way)->reserve)
		err = bench_way(way)->reserve(&job);
	if (err) {
		free_memory();
		return err;
	}
	job.way = bench_way(way);
	return 0;
}

void bench_pages_close(void)
{
	if (!job.way)
		return;
	if (job.way->release)
		job.way->release(&job);
	free_memory();
}

int bench_pages_link(void)
{
	unsigned long flags;
	int err;

	if (!job.way)
		return -EINVAL;
	local_irq_save(flags);
	err = job.way->link(&job);
	local_irq_restore(flags);
	return err;
}

int bench_pages_unlink(void)
{
	unsigned long flags;

	if (!job.way)
		return -EINVAL;
	local_irq_save(flags);
	job.way->unlink(&job);
	local_irq_restore(flags);
	return 0;
}

/* Whether the I/O page table has all pages of the job, or none. */
static int look(bool linked)
{
	struct iommu_domain *domain = iommu_get_domain_for_dev(job.dev);
	phys_addr_t found, wanted;
	unsigned int i;
	size_t at;

	for (i = 0; i < job.nr; i++) {
		for (at = 0; at < job.len; at += PAGE_SIZE) {
			wanted = linked ? job.phys[i] + at : 0;
			found = iommu_iova_to_phys(domain, job.addr[i] + at);
			if (found == wanted)
				continue;
			pr_err("dma_bench: %s: segment %u byte %zu is at %pa instead of %pa\n",
			       job.way->name, i, at, &found, &wanted);
			return -EIO;
		}
	}
	return 0;
}

/* What lies between the two timed calls, and behind them, is not timed. */
static int time_round(u64 *link, u64 *unlink)
{
	unsigned long flags;
	u64 start, end;
	int err, seen;

	local_irq_save(flags);
	start = bench_clock();
	err = job.way->link(&job);
	end = bench_clock();
	*link = bench_elapsed(start, end);
	if (!err) {
		seen = look(true);
		start = bench_clock();
		job.way->unlink(&job);
		end = bench_clock();
		*unlink = bench_elapsed(start, end);
		err = seen ?: look(false);
	}
	local_irq_restore(flags);
	return err;
}

static int time_rounds(void)
{
	u64 link, unlink;
	int err, round;

	for (round = 0; round < BENCH_ROUNDS; round++) {
		err = time_round(&link, &unlink);
		if (err)
			return err;
		bench_say("%llu %llu\n", link, unlink);
	}
	return 0;
}

int bench_pages_time(struct device *dev, const char *way, const char *shape)
{
	int err = bench_pages_open(dev, way, shape);

	if (err)
		return err;
	err = time_rounds();
	bench_pages_close();
	return err;
}
