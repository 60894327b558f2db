// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
// Copyright (c) 2026 The Twostep authors
/*
 * two regions that memory does not hold, one copied into the other.
 *
 * Every page has bytes that follow from its region, its place and the round, and compress well:
 * a line of 64 bytes, again and again. A round fills one region, has the device copy all of it
 * into the other, several messages at a time, by writes and in the next round back by reads;
 * then it compares every byte of both.
 *
 * -n is their size together, in MiB. Whoever starts this sees to it that there is less memory:
 * by a memory cgroup, or a small machine; and that there is swap.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "backing.h"
#include "fabric.h"
#include "region.h"
#include "options.h"
#include "suite.h"

#define DEFAULT_MIB 64
#define LENGTH (128UL << 10)
/* Messages in flight. */
#define WINDOW 8
#define ROUNDS 2
#define LINE (64 / sizeof(uint64_t))

/**
 * struct stage - the two sides
 * @fabric: the device
 * @pair: queue pairs
 * @sides: regions of the near and the far end, on demand; &region.want is not used: it would
 *	need as much memory again
 * @size: bytes of each
 * @salt: of this run
 */
struct stage {
	struct fabric fabric;
	struct pair pair;
	struct region sides[2];
	size_t size;
	uint64_t salt;
};

/* The line that a page has after a round in which it was the source, or had its bytes. */
static void line_of(const struct stage *stage, size_t page, size_t round,
		    uint64_t *line)
{
	uint64_t x = stage->salt ^ page << 8 ^ round;

	for (size_t i = 0; i < LINE; i++) {
		x = (x ^ x >> 31) * 0x9e3779b97f4a7c15ULL;
		line[i] = x ^ x >> 29;
	}
}

static void fill(const struct stage *stage, struct region *region, size_t round)
{
	uint64_t line[LINE];

	for (size_t at = 0; at < stage->size; at += PAGE) {
		line_of(stage, at / PAGE, round, line);
		for (size_t i = 0; i < PAGE; i += sizeof(line))
			memcpy(region->bytes + at + i, line, sizeof(line));
	}
}

static void check(const struct stage *stage, const struct region *region,
		  size_t round)
{
	uint64_t line[LINE];

	for (size_t at = 0; at < stage->size; at += PAGE) {
		line_of(stage, at / PAGE, round, line);
		for (size_t i = 0; i < PAGE; i += sizeof(line))
			if (memcmp(region->bytes + at + i, line, sizeof(line)))
				wrong("the %s side has other bytes at %zu",
				      region == stage->sides ? "near" : "far",
				      at + i);
	}
}

static void region_open(struct stage *stage, struct region *region)
{
	region->size = stage->size;
	region->bytes = mmap(NULL, stage->size, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
			     0);
	if (region->bytes == MAP_FAILED)
		wrong("no memory for %zu bytes: %s", stage->size,
		      strerror(errno));
	region->iova = (uintptr_t)region->bytes;
	region->mr = ibv_reg_mr(stage->fabric.pd, region->bytes, stage->size,
				ALL_ACCESS | IBV_ACCESS_ON_DEMAND);
	if (!region->mr)
		wrong("%zu bytes are not registered: %s", stage->size,
		      strerror(errno));
}

static void post(struct stage *stage, enum ibv_wr_opcode opcode, size_t at)
{
	struct region *near = &stage->sides[0], *far = &stage->sides[1];
	struct ibv_sge sge = region_sge(near, at, LENGTH);
	struct ibv_send_wr wr = { .sg_list = &sge,
				  .num_sge = 1,
				  .opcode = opcode },
			   *bad;
	int ret;

	wr.wr.rdma.remote_addr = far->iova + at;
	wr.wr.rdma.rkey = far->mr->rkey;
	ret = ibv_post_send(stage->pair.near.qp, &wr, &bad);
	if (ret)
		wrong("not posted: %s", strerror(ret));
}

static void copy_all(struct stage *stage, enum ibv_wr_opcode opcode)
{
	size_t posted = 0;

	for (size_t done = 0; done < stage->size; done += LENGTH) {
		for (; posted < stage->size && posted < done + WINDOW * LENGTH;
		     posted += LENGTH)
			post(stage, opcode, posted);
		end_wait_success(&stage->pair.near, "requester");
	}
}

static void one_round(struct stage *stage, size_t round)
{
	bool pull = round % 2;

	fill(stage, &stage->sides[pull], round);
	copy_all(stage, pull ? IBV_WR_RDMA_READ : IBV_WR_RDMA_WRITE);
	check(stage, &stage->sides[!pull], round);
	check(stage, &stage->sides[pull], round);
}

static void larger_than_memory(const void *what)
{
	struct stage stage = {};
	uint64_t taken, swapped_out, swapped_in;

	(void)what;
	stage.size = (options.count ?: DEFAULT_MIB) << 19;
	stage.salt = draw();
	fabric_open_odp(&stage.fabric, IBV_QPT_RC);
	pair_make(&stage.pair, &stage.fabric, IBV_QPT_RC, IBV_MTU_4096, false);
	for (int i = 0; i < 2; i++)
		region_open(&stage, &stage.sides[i]);
	taken = pages_taken();
	swapped_out = vm_event("pswpout");
	swapped_in = vm_event("pswpin");
	for (size_t round = 0; round < ROUNDS; round++) {
		snprintf(doing, sizeof(doing), "round %zu", round);
		one_round(&stage, round);
	}
	*doing = 0;
	swapped_out = vm_event("pswpout") - swapped_out;
	swapped_in = vm_event("pswpin") - swapped_in;
	printf("# %" PRIu64 " pages were swapped out, %" PRIu64 " in\n",
	       swapped_out, swapped_in);
	if (!swapped_out || !swapped_in)
		skip(MACHINE, "memory holds all of it, nothing is swapped");
	want_taken(taken);
	pair_destroy(&stage.pair);
	for (int i = 0; i < 2; i++) {
		ibv_dereg_mr(stage.sides[i].mr);
		munmap(stage.sides[i].bytes, stage.size);
	}
}

static const struct test tests[] = {
	/* Swapping depends on the machine and on who else is on it. */
	{ .name = "pressure.larger_than_memory",
	  .run = larger_than_memory,
	  .seconds = 300 },
};

TESTS(tests)
