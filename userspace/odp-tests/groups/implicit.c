// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
// Copyright (c) 2026 The Twostep authors
/*
 * The address space as one MR: what is mapped, now or later, wherever it is. (What it refuses is
 * in refused.c, windows on it in window*.c.)
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "peer.h"
#include "suite.h"

#define SIZE (32 * PAGE)

/**
 * struct stage - a process whose memory a peer reaches
 * @peer: he
 * @mr: all of it
 */
struct stage {
	struct peer peer;
	struct ibv_mr *mr;
};

static void open_stage(struct stage *stage)
{
	peer_open(&stage->peer, SIZE);
	need_implicit(&stage->peer.fabric);
	stage->mr = ibv_reg_mr(stage->peer.fabric.pd, NULL, SIZE_MAX,
			       ALL_ACCESS | IBV_ACCESS_ON_DEMAND);
	if (!stage->mr)
		wrong("announced, and not registered: %s", strerror(errno));
}

static void close_stage(struct stage *stage)
{
	int ret = ibv_dereg_mr(stage->mr);

	if (ret)
		wrong("not deregistered: %s", strerror(ret));
	peer_close(&stage->peer);
}

/* Memory of the process, at an address of its own choice or at AT. */
static struct region some_memory(struct stage *stage, void *at)
{
	struct region region = {
		.size = SIZE, .want = malloc(SIZE), .mr = stage->mr, .odp = true
	};

	region.bytes = mmap(at, SIZE, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS |
				    (at ? MAP_FIXED_NOREPLACE : 0),
			    -1, 0);
	if (region.bytes == MAP_FAILED)
		skip(MACHINE, "no memory at %p: %s", at, strerror(errno));
	region.iova = (uintptr_t)region.bytes;
	region_fill(&region, 0, SIZE);
	return region;
}

static void give_back(struct region *region)
{
	munmap(region->bytes, SIZE);
	free(region->want);
}

static void both_ways(struct stage *stage, struct region *region)
{
	peer_reads(&stage->peer, region, 0, SIZE);
	peer_writes(&stage->peer, region, 3, SIZE - 6);
}

static void memory_of_before_and_behind(const void *what)
{
	struct region before, behind;
	struct stage stage;

	(void)what;
	open_stage(&stage);
	before = some_memory(&stage, NULL);
	both_ways(&stage, &before);
	behind = some_memory(&stage, NULL);
	both_ways(&stage, &behind);
	both_ways(&stage, &before);
	give_back(&before);
	give_back(&behind);
	close_stage(&stage);
}

/* Gone, and come again at the same address: other pages. */
static void same_address_again(const void *what)
{
	struct region region;
	struct stage stage;
	void *at;

	(void)what;
	open_stage(&stage);
	region = some_memory(&stage, NULL);
	for (int i = 0; i < 10; i++) {
		at = region.bytes;
		both_ways(&stage, &region);
		give_back(&region);
		peer_fails(&stage.peer, IBV_WR_RDMA_READ, (uintptr_t)at + 64,
			   stage.mr->rkey, 8, IBV_WC_REM_ACCESS_ERR);
		region = some_memory(&stage, at);
	}
	give_back(&region);
	close_stage(&stage);
}

/* From the first TiB to the last of 47 bits. */
static void far_apart(const void *what)
{
	struct region regions[16];
	struct stage stage;

	(void)what;
	open_stage(&stage);
	for (size_t i = 0; i < COUNT(regions); i++) {
		uintptr_t at = (7 * i + 1) << 40 | below(1 << 20) * PAGE;

		regions[i] = some_memory(&stage, (void *)at);
	}
	for (int round = 0; round < 3; round++)
		for (size_t i = 0; i < COUNT(regions); i++) {
			snprintf(doing, sizeof(doing), "memory at %p",
				 regions[i].bytes);
			both_ways(&stage, &regions[i]);
		}
	for (size_t i = 0; i < COUNT(regions); i++)
		give_back(&regions[i]);
	close_stage(&stage);
}

/* A message over the border of two mappings, of different kinds. */
static void over_a_border(const void *what)
{
	struct region region;
	struct stage stage;

	(void)what;
	open_stage(&stage);
	region = some_memory(&stage, NULL);
	if (mmap(region.bytes + SIZE / 2, SIZE / 2, PROT_READ | PROT_WRITE,
		 MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
		wrong("mmap: %s", strerror(errno));
	memset(region.want + SIZE / 2, 0, SIZE / 2);
	both_ways(&stage, &region);
	give_back(&region);
	close_stage(&stage);
}

static const struct test tests[] = {
#define TEST(what) { "implicit." #what, what }
	TEST(memory_of_before_and_behind),
	TEST(same_address_again),
	TEST(far_apart),
	TEST(over_a_border),
};

TESTS(tests)
