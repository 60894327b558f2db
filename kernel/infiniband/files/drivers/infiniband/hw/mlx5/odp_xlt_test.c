// SPDX-License-Identifier: GPL-2.0
/*
 * Copyright (c) 2026 The Twostep authors
 *
 * KUnit tests of the translation table of an on-demand paging MR (odp_xlt.h). No device.
 *
 * The reference is a plain array of what each entry must be. Runs are made from it as the
 * umem makes them: neighbours with equal rights whose DMA addresses continue one another.
 *
 * Parameter: mlx5_ib.odp_test_seed, 0 for a new one each time.
 */

#include <kunit/test.h>
#include <linux/moduleparam.h>
#include <linux/prandom.h>
#include <linux/random.h>
#include <linux/sizes.h>
#include <rdma/ib_umem_odp.h>

#include "mlx5_ib.h"
#include "odp_xlt.h"

static ulong odp_test_seed;
module_param(odp_test_seed, ulong, 0644);
MODULE_PARM_DESC(odp_test_seed,
		 "seed of the on-demand paging tests, 0: a new one each time");

#define ENTRIES 2048
#define ROUNDS 500

/* User address of entry 0: aligned to the largest entry, as umems are. */
#define BASE 0x7f1200000000ULL

/**
 * struct table - what a table must be
 * @rnd: where chance comes from
 * @shift: log2 of the bytes of an entry
 * @dma: DMA address of an entry
 * @access: PFN_TAG_ACCESS bits of an entry, 0 for a hole
 * @buffer: what is filled, and words around it that must stay
 */
struct table {
	struct rnd_state rnd;
	unsigned int shift;
	u64 dma[ENTRIES];
	u64 access[ENTRIES];
	__be64 buffer[ENTRIES + 2];
};

static u32 below(struct rnd_state *rnd, u32 n)
{
	return prandom_u32_state(rnd) % n;
}

static struct table *table_create(struct kunit *test)
{
	struct table *table = kunit_kzalloc(test, sizeof(*table), GFP_KERNEL);
	u64 chosen = odp_test_seed ?: get_random_u32();

	KUNIT_ASSERT_NOT_NULL(test, table);
	kunit_info(test, "seed %llu", chosen);
	prandom_seed_state(&table->rnd, chosen);
	return table;
}

/* Stretches of holes, of scattered and of contiguous entries. */
static void table_draw(struct table *table)
{
	static const unsigned int shifts[] = { 12, 12, 16, 21 };
	static const u64 access[] = { 0, PFN_TAG_READ, PFN_TAG_ACCESS };
	struct rnd_state *rnd = &table->rnd;
	unsigned int i, left = 0;
	u64 dma = 0, rights = 0;

	table->shift = shifts[below(rnd, ARRAY_SIZE(shifts))];
	for (i = 0; i < ENTRIES; i++) {
		if (!left--) {
			left = below(rnd, 5) ? below(rnd, 4) : below(rnd, 900);
			rights = access[below(rnd, ARRAY_SIZE(access))];
			if (below(rnd, 3))
				dma = (u64)prandom_u32_state(rnd)
				      << table->shift;
		}
		table->access[i] = rights;
		table->dma[i] = dma;
		dma += BIT_ULL(table->shift);
	}
}

/* The run that begins with entry @i. Returns how many entries it has. */
static unsigned int table_run(const struct table *table, unsigned int i,
			      struct ib_umem_odp_run *run)
{
	u64 entry = BIT_ULL(table->shift);
	unsigned int n = 1;

	while (i + n < ENTRIES && table->access[i + n] == table->access[i] &&
	       table->dma[i + n] == table->dma[i] + n * entry)
		n++;
	*run = (struct ib_umem_odp_run){
		.addr = BASE + i * entry,
		.len = n * entry,
		.dma = table->dma[i],
		.access = table->access[i],
	};
	return n;
}

static u64 table_entry(const struct table *table, unsigned int i)
{
	if (!table->access[i])
		return 0;
	return table->dma[i] |
	       (table->access[i] & PFN_TAG_READ ? MLX5_IB_MTT_READ : 0) |
	       (table->access[i] & PFN_TAG_WRITE ? MLX5_IB_MTT_WRITE : 0);
}

static void fill_window(struct table *table, const struct mlx5_odp_span *span)
{
	struct ib_umem_odp_run run;
	unsigned int i, n;

	memset(table->buffer, 0xa5, sizeof(table->buffer));
	memset(table->buffer + 1, 0, span->nr * sizeof(*table->buffer));
	for (i = 0; i < ENTRIES; i += n) {
		n = table_run(table, i, &run);
		if (run.access)
			mlx5_odp_fill(table->buffer + 1, span, BASE,
				      table->shift, &run);
	}
}

static void entries_are_those_of_runs(struct kunit *test)
{
	struct table *table = table_create(test);
	const u64 guard = 0xa5a5a5a5a5a5a5a5ULL;
	struct mlx5_odp_span span;
	unsigned int round, i;

	for (round = 0; round < ROUNDS; round++) {
		table_draw(table);
		span.first = below(&table->rnd, ENTRIES);
		span.nr = 1 + below(&table->rnd, ENTRIES - span.first);
		fill_window(table, &span);
		for (i = 0; i < span.nr; i++)
			KUNIT_ASSERT_EQ(test, be64_to_cpu(table->buffer[i + 1]),
					table_entry(table, span.first + i));
		KUNIT_ASSERT_EQ(test, be64_to_cpu(table->buffer[0]), guard);
		KUNIT_ASSERT_EQ(test, be64_to_cpu(table->buffer[span.nr + 1]),
				guard);
	}
}

/**
 * struct zaps - spans as they would be zapped
 * @test: the case
 * @table: what is present
 * @behind: behind the last entry that was zapped
 * @spans: how many
 */
struct zaps {
	struct kunit *test;
	struct table *table;
	u64 behind;
	unsigned int spans;
};

/* A span begins and ends with a page, and its neighbours are too far away to be in it. */
static void zaps_add(struct zaps *zaps, const struct mlx5_odp_span *span)
{
	struct kunit *test = zaps->test;
	u64 i;

	KUNIT_ASSERT_GT(test, span->nr, 0);
	KUNIT_ASSERT_TRUE(test, zaps->table->access[span->first]);
	KUNIT_ASSERT_TRUE(test,
			  zaps->table->access[span->first + span->nr - 1]);
	for (i = zaps->behind; i < span->first; i++)
		KUNIT_ASSERT_FALSE(test, zaps->table->access[i]);
	if (zaps->spans++)
		KUNIT_ASSERT_GT(test, span->first - zaps->behind, 512);
	zaps->behind = span->first + span->nr;
}

static void zap_all(struct zaps *zaps)
{
	struct table *table = zaps->table;
	struct mlx5_odp_span next, span = {};
	struct ib_umem_odp_run run;
	unsigned int i, n;

	for (i = 0; i < ENTRIES; i += n) {
		n = table_run(table, i, &run);
		if (!run.access)
			continue;
		next = mlx5_odp_span_of(BASE, run.addr, run.addr + run.len,
					table->shift);
		KUNIT_ASSERT_EQ(zaps->test, next.first, i);
		KUNIT_ASSERT_EQ(zaps->test, next.nr, n);
		if (mlx5_odp_span_join(&span, &next))
			continue;
		zaps_add(zaps, &span);
		span = next;
	}
	if (span.nr)
		zaps_add(zaps, &span);
	for (; zaps->behind < ENTRIES; zaps->behind++)
		KUNIT_ASSERT_FALSE(zaps->test, table->access[zaps->behind]);
}

static void zaps_cover_all_runs(struct kunit *test)
{
	struct table *table = table_create(test);
	unsigned int round;

	for (round = 0; round < ROUNDS; round++) {
		struct zaps zaps = { .test = test, .table = table };

		table_draw(table);
		zap_all(&zaps);
	}
}

static void a_small_gap_is_zapped_as_well(struct kunit *test)
{
	struct mlx5_odp_span span = { .first = 1000, .nr = 10 };
	const struct mlx5_odp_span near = { .first = 1522, .nr = 1 };
	const struct mlx5_odp_span far = { .first = 2036, .nr = 1 };

	KUNIT_EXPECT_TRUE(test, mlx5_odp_span_join(&span, &near));
	KUNIT_EXPECT_EQ(test, span.nr, 523);
	KUNIT_EXPECT_FALSE(test, mlx5_odp_span_join(&span, &far));
	KUNIT_EXPECT_EQ(test, span.nr, 523);
}

static void descending_spans_are_not_joined(struct kunit *test)
{
	struct mlx5_odp_span span = { .first = 1000, .nr = 10 };
	const struct mlx5_odp_span before = { .first = 990, .nr = 10 };
	const struct mlx5_odp_span inside = { .first = 1005, .nr = 1 };

	KUNIT_EXPECT_FALSE(test, mlx5_odp_span_join(&span, &before));
	KUNIT_EXPECT_FALSE(test, mlx5_odp_span_join(&span, &inside));
	KUNIT_EXPECT_EQ(test, span.first, 1000);
	KUNIT_EXPECT_EQ(test, span.nr, 10);
}

static void a_byte_takes_its_entry(struct kunit *test)
{
	struct mlx5_odp_span span;

	span = mlx5_odp_span_of(BASE, BASE + SZ_2M - 1, BASE + SZ_2M + 1, 21);
	KUNIT_EXPECT_EQ(test, span.first, 0);
	KUNIT_EXPECT_EQ(test, span.nr, 2);
	span = mlx5_odp_span_of(BASE, BASE + SZ_2M, BASE + SZ_2M + 1, 12);
	KUNIT_EXPECT_EQ(test, span.first, 512);
	KUNIT_EXPECT_EQ(test, span.nr, 1);
	span = mlx5_odp_span_of(BASE, BASE + SZ_2M, BASE + SZ_2M, 12);
	KUNIT_EXPECT_EQ(test, span.nr, 0);
	/* More entries than fit into 32 bits. */
	span = mlx5_odp_span_of(0, 0, 1ULL << 47, 12);
	KUNIT_EXPECT_EQ(test, span.nr, 1ULL << 35);
}

static void ranges_are_checked(struct kunit *test)
{
	KUNIT_EXPECT_EQ(test, mlx5_odp_check_range(BASE, 1, 0, 12), 0);
	KUNIT_EXPECT_EQ(test, mlx5_odp_check_range(BASE + 5, 1, 5, 12), 0);
	KUNIT_EXPECT_EQ(test, mlx5_odp_check_range(BASE + 5, 1, 0, 12),
			-EINVAL);
	KUNIT_EXPECT_EQ(test, mlx5_odp_check_range(BASE + SZ_4K, SZ_4K, 0, 12),
			0);
	KUNIT_EXPECT_EQ(test, mlx5_odp_check_range(BASE + SZ_4K, SZ_4K, 0, 21),
			-EINVAL);
	KUNIT_EXPECT_EQ(test, mlx5_odp_check_range(0, SZ_4K, -SZ_4K, 12),
			-EINVAL);
	KUNIT_EXPECT_EQ(test, mlx5_odp_check_range(0, 1, -SZ_4K, 12), -EINVAL);
	KUNIT_EXPECT_EQ(test, mlx5_odp_check_range(0, 8ULL << 40, 0, 12),
			-EOPNOTSUPP);
	KUNIT_EXPECT_EQ(test,
			mlx5_odp_check_range(0, (8ULL << 40) - 1, 1 << 12, 12),
			-EOPNOTSUPP);
	KUNIT_EXPECT_EQ(
		test, mlx5_odp_check_range(0, (8ULL << 40) - SZ_4K, 0, 12), 0);
	KUNIT_EXPECT_EQ(test, mlx5_odp_check_range(0, 1ULL << 47, 0, 21), 0);
}

static struct kunit_case cases[] = { KUNIT_CASE(entries_are_those_of_runs),
				     KUNIT_CASE(zaps_cover_all_runs),
				     KUNIT_CASE(a_small_gap_is_zapped_as_well),
				     KUNIT_CASE(
					     descending_spans_are_not_joined),
				     KUNIT_CASE(a_byte_takes_its_entry),
				     KUNIT_CASE(ranges_are_checked),
				     {} };

static struct kunit_suite suite = {
	.name = "mlx5_odp_xlt",
	.test_cases = cases,
};

kunit_test_suite(suite);
