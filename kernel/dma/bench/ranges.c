// SPDX-License-Identifier: GPL-2.0
/*
 * Copyright (c) 2026 The Twostep authors
 *
 * What it costs to reserve and to free an IOVA range while many are alive.
 *
 * With `live` ranges reserved, a pseudo-random one is freed and reserved again, many times a
 * round. "replace" does it with one size; "churn" gives the new range another size, a random
 * power of two from 4 KiB to 1 GiB, so that holes of all sizes come to be.
 *
 * A reserve may sleep, so interrupts stay on. A sample that an interrupt fell into is not
 * counted, unless it is so long that the interrupt is lost in it: leaving those out too would
 * leave out the dearest.
 */
#include <linux/jiffies.h>
#include <linux/kernel_stat.h>
#include <linux/prandom.h>
#include <linux/sched.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include <linux/string.h>

#include "bench.h"
#include "clock.h"
#include "command.h"

#define REPLACEMENTS 512 /* a round */
#define SEED 1
#define SIZES 19 /* powers of two from 4 KiB to 1 GiB */
#define LONG 20000 /* instructions; an interrupt takes some 2000 */

struct cost {
	u64 sum;
	u64 worst;
	unsigned int count;
};

struct samples {
	struct cost reserve;
	struct cost release;
};

static struct dma_iova_state *states;
static struct rnd_state random;

static unsigned long disturbances(void)
{
	return jiffies + kstat_cpu_irqs_sum(raw_smp_processor_id());
}

static void count(struct cost *cost, u64 took, bool disturbed)
{
	if (disturbed && took < LONG)
		return;
	cost->sum += took;
	cost->worst = max(cost->worst, took);
	cost->count++;
}

static size_t mixed_size(void)
{
	return PAGE_SIZE << prandom_u32_state(&random) % SIZES;
}

/* Free STATE and reserve SIZE instead. */
static int replace(struct device *dev, struct dma_iova_state *state,
		   size_t size, struct samples *samples)
{
	unsigned long before = disturbances(), between, after;
	u64 start, freed, zeroed, end;
	int err;

	start = bench_clock();
	bench_reserver.release(dev, state);
	freed = bench_clock();
	between = disturbances();
	memset(state, 0, sizeof(*state));
	zeroed = bench_clock();
	err = bench_reserver.reserve(dev, state, size);
	end = bench_clock();
	after = disturbances();
	if (err)
		return err;
	count(&samples->release, bench_elapsed(start, freed),
	      before != between);
	count(&samples->reserve, bench_elapsed(zeroed, end), between != after);
	return 0;
}

static void free_all(struct device *dev, unsigned int live)
{
	while (live--) {
		if (dma_use_iova(&states[live]))
			bench_reserver.release(dev, &states[live]);
		cond_resched();
	}
	kvfree(states);
}

/* SIZE 0 stands for a mixture. */
static int reserve_all(struct device *dev, size_t size, unsigned int live)
{
	unsigned int i;
	int err;

	prandom_seed_state(&random, SEED);
	states = kvcalloc(live, sizeof(*states), GFP_KERNEL);
	if (!states)
		return -ENOMEM;
	for (i = 0; i < live; i++) {
		err = bench_reserver.reserve(dev, &states[i],
					     size ?: mixed_size());
		if (err) {
			free_all(dev, i);
			return err;
		}
		cond_resched();
	}
	return 0;
}

static int one_round(struct device *dev, size_t size, unsigned int live)
{
	struct samples samples = {};
	unsigned int i, victim;
	int err;

	for (i = 0; i < REPLACEMENTS; i++) {
		victim = prandom_u32_state(&random) % live;
		err = replace(dev, &states[victim], size ?: mixed_size(),
			      &samples);
		if (err)
			return err;
		cond_resched();
	}
	bench_say("%llu %u %llu %llu %u %llu\n", samples.reserve.sum,
		  samples.reserve.count, samples.reserve.worst,
		  samples.release.sum, samples.release.count,
		  samples.release.worst);
	return 0;
}

static int measure(struct device *dev, size_t size, unsigned int live)
{
	int err, round;

	if (!bench_reserver.reserve)
		return -EOPNOTSUPP;
	if (!live)
		return -EINVAL;
	err = reserve_all(dev, size, live);
	if (err)
		return err;
	for (round = 0; round < BENCH_ROUNDS && !err; round++)
		err = one_round(dev, size, live);
	free_all(dev, live);
	return err;
}

int bench_ranges_replace(struct device *dev, const char *size,
			 unsigned int live)
{
	char *end;
	size_t bytes = memparse(size, &end);

	return bytes && !*end ? measure(dev, bytes, live) : -EINVAL;
}

int bench_ranges_churn(struct device *dev, unsigned int live)
{
	return measure(dev, 0, live);
}
