// SPDX-License-Identifier: GPL-2.0
/*
 * Copyright (c) 2026 The Twostep authors
 *
 * The ways of reaching memory, thin over the API of whichever kernel this is built for:
 *
 * oneshot  dma_map_page() and dma_unmap_page() for each segment; every kernel has it
 * each     two-step, link and sync and unlink segment by segment, as mainline's ODP does
 * hand     two-step, links, then one sync; one unlink: what a caller can batch by hand
 * many     two-step, one dma_iova_link_pfns() and one dma_iova_unlink_pfns(): ours only
 */
#include <linux/errno.h>
#include <linux/gfp.h>
#include <linux/sizes.h>
#include <linux/string.h>

#include "bench.h"

static void oneshot_unmap(struct bench_job *job, unsigned int nr)
{
	while (nr--)
		dma_unmap_page(job->dev, job->addr[nr], job->len,
			       DMA_BIDIRECTIONAL);
}

static int oneshot_link(struct bench_job *job)
{
	unsigned int i;

	for (i = 0; i < job->nr; i++) {
		job->addr[i] = dma_map_page(job->dev, job->pages[i], 0,
					    job->len, DMA_BIDIRECTIONAL);
		if (dma_mapping_error(job->dev, job->addr[i])) {
			oneshot_unmap(job, i);
			return -ENOMEM;
		}
	}
	return 0;
}

static void oneshot_unlink(struct bench_job *job)
{
	unsigned int i;

	for (i = 0; i < job->nr; i++)
		dma_unmap_page(job->dev, job->addr[i], job->len,
			       DMA_BIDIRECTIONAL);
}

#ifdef BENCH_TWO_STEP
static size_t total(const struct bench_job *job)
{
	return job->nr * job->len;
}

static void set_addresses(struct bench_job *job)
{
	unsigned int i;

	for (i = 0; i < job->nr; i++)
		job->addr[i] = job->state.addr + i * job->len;
}

static int two_step_reserve(struct bench_job *job)
{
	if (!dma_iova_try_alloc(job->dev, &job->state, job->phys[0],
				total(job)))
		return -ENOSPC;
	set_addresses(job);
	return 0;
}

static void two_step_release(struct bench_job *job)
{
	dma_iova_free(job->dev, &job->state);
}

static int each_link(struct bench_job *job)
{
	size_t offset = 0;
	unsigned int i;
	int err;

	for (i = 0; i < job->nr; i++, offset += job->len) {
		err = dma_iova_link(job->dev, &job->state, job->phys[i], offset,
				    job->len, DMA_BIDIRECTIONAL, 0);
		if (!err)
			err = dma_iova_sync(job->dev, &job->state, offset,
					    job->len);
		if (err)
			return err;
	}
	return 0;
}

static void each_unlink(struct bench_job *job)
{
	size_t offset = 0;
	unsigned int i;

	for (i = 0; i < job->nr; i++, offset += job->len)
		dma_iova_unlink(job->dev, &job->state, offset, job->len,
				DMA_BIDIRECTIONAL, 0);
}

static int hand_link(struct bench_job *job)
{
	size_t offset = 0;
	unsigned int i;
	int err;

	for (i = 0; i < job->nr; i++, offset += job->len) {
		err = dma_iova_link(job->dev, &job->state, job->phys[i], offset,
				    job->len, DMA_BIDIRECTIONAL, 0);
		if (err)
			return err;
	}
	return dma_iova_sync(job->dev, &job->state, 0, offset);
}

static void hand_unlink(struct bench_job *job)
{
	dma_iova_unlink(job->dev, &job->state, 0, total(job), DMA_BIDIRECTIONAL,
			0);
}
#endif /* BENCH_TWO_STEP */

#ifdef BENCH_MANY
/* As an ODP region reserves: congruent where a huge entry could ever fit. */
static int many_reserve(struct bench_job *job)
{
	size_t modulo = total(job) >= SZ_2M ? SZ_2M : PAGE_SIZE;
	int err;

	err = dma_iova_reserve(job->dev, &job->state,
			       job->block ? job->phys[0] : 0, modulo,
			       total(job));
	if (!err)
		set_addresses(job);
	return err;
}

static int many_link(struct bench_job *job)
{
	size_t done;

	return dma_iova_link_pfns(job->dev, &job->state, 0, job->words,
				  total(job) / PAGE_SIZE, &done, GFP_ATOMIC);
}

static void many_unlink(struct bench_job *job)
{
	dma_iova_unlink_pfns(job->dev, &job->state, 0, job->words,
			     total(job) / PAGE_SIZE);
}

static int congruent_reserve(struct device *dev, struct dma_iova_state *state,
			     size_t size)
{
	return dma_iova_reserve(dev, state, 0,
				size >= SZ_2M ? SZ_2M : PAGE_SIZE, size);
}
#elif defined(BENCH_TWO_STEP)
static int plain_reserve(struct device *dev, struct dma_iova_state *state,
			 size_t size)
{
	return dma_iova_try_alloc(dev, state, 0, size) ? 0 : -ENOSPC;
}
#endif

#ifdef BENCH_TWO_STEP
const struct bench_reserver bench_reserver = {
#ifdef BENCH_MANY
	.reserve = congruent_reserve,
#else
	.reserve = plain_reserve,
#endif
	.release = dma_iova_free,
};
#else
const struct bench_reserver bench_reserver;
#endif

static const struct bench_way ways[] = {
	{ "oneshot", NULL, NULL, oneshot_link, oneshot_unlink },
#ifdef BENCH_TWO_STEP
	{ "each", two_step_reserve, two_step_release, each_link, each_unlink },
	{ "hand", two_step_reserve, two_step_release, hand_link, hand_unlink },
#endif
#ifdef BENCH_MANY
	{ "many", many_reserve, two_step_release, many_link, many_unlink },
	{ "congruent", many_reserve, two_step_release, hand_link, hand_unlink },
#endif
};

const struct bench_way *bench_way(const char *name)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(ways); i++)
		if (!strcmp(ways[i].name, name))
			return &ways[i];
	return NULL;
}
