/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Copyright (c) 2026 The Twostep authors
 *
 * What the parts of the measuring module share.
 *
 * A job is memory in segments of equal length, a device, and a way of making the memory
 * reachable for the device. It is opened (memory, IOVA), then linked and unlinked as often
 * as wanted, then closed. Only link and unlink are timed, with interrupts off.
 *
 * A way is one API used in one manner. A way that a kernel does not have is absent from
 * its table, and asking for it is -EOPNOTSUPP: no figure, instead of a wrong one.
 *
 * One user at a time: command.c holds a lock over every command.
 */
#ifndef DMA_BENCH_H
#define DMA_BENCH_H

#include <linux/device.h>
#include <linux/types.h>

#ifdef BENCH_MANY
#include <linux/dma-iova.h>
#endif
#include <linux/dma-mapping.h>

#ifndef BENCH_TWO_STEP
struct dma_iova_state {
	dma_addr_t addr;
};

static inline bool dma_use_iova(const struct dma_iova_state *state)
{
	return false;
}
#endif

/* Rounds of every measure; the first two warm caches, all are told. */
#define BENCH_ROUNDS 5

struct bench_way;

struct bench_job {
	const struct bench_way *way;
	struct device *dev;
	struct page *block; /* the memory, if it is contiguous */
	unsigned int order;
	struct page **
		scattered; /* the memory, if it is not; twice as many as are used */
	unsigned int nr; /* segments */
	size_t len; /* bytes of each */
	phys_addr_t *phys; /* of each segment */
	dma_addr_t *addr; /* of each segment, once linked */
	struct page **pages; /* first of each segment */
	u64 *words; /* tagged PFN of each page */
	struct dma_iova_state state;
};

/*
 * link: all segments are reachable when it returns, or it fails and none is.
 * reserve and release take and give back what outlives a link; NULL if nothing does.
 */
struct bench_way {
	const char *name;
	int (*reserve)(struct bench_job *job);
	void (*release)(struct bench_job *job);
	int (*link)(struct bench_job *job);
	void (*unlink)(struct bench_job *job);
};

/* IOVA ranges without memory; of a kernel that cannot, both are NULL. */
struct bench_reserver {
	int (*reserve)(struct device *dev, struct dma_iova_state *state,
		       size_t size);
	void (*release)(struct device *dev, struct dma_iova_state *state);
};

extern const struct bench_reserver bench_reserver;
const struct bench_way *bench_way(const char *name);

int bench_pages_time(struct device *dev, const char *way, const char *shape);
int bench_pages_open(struct device *dev, const char *way, const char *shape);
int bench_pages_link(void);
int bench_pages_unlink(void);
void bench_pages_close(void);

int bench_ranges_replace(struct device *dev, const char *size,
			 unsigned int live);
int bench_ranges_churn(struct device *dev, unsigned int live);

#endif
