// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
// Copyright (c) 2026 The Twostep authors
/*
 * rxe-cost: what a user of soft-RoCE pays, seen from a process with both ends of a pair.
 *
 *   rxe-cost transfer write|read|send BYTES MTU pinned|odp
 *   rxe-cost register GIB
 *   rxe-cost write-cold
 *   rxe-cost copy BYTES pinned|odp
 *   rxe-cost copy-beside
 *
 * The first two print instructions, a line a round: of a message, between two regions of the
 * same kind whose pages the device has; of ibv_reg_mr() for GIB of on-demand paging memory.
 * "write-cold" writes 1 GiB to on-demand paging memory that nobody ever touched, for others to
 * count what that takes. The last two have rxe_bench.ko copy to a region: "copy" prints the
 * instructions of a copy, "copy-beside" how many nanoseconds one CPU takes and how many two, by
 * turns, each CPU for its part of the region. Status: 0; 1 something went wrong, or a byte is
 * wrong; 4 the kernel cannot do it.
 *
 * Instructions are the time stamp counter of a machine with one CPU on the instruction clock.
 * Everybody's count, the kernel's workers' above all, as long as the CPU does not sleep, so
 * the process polls for its completions; it does so when nobody else has work (SCHED_IDLE),
 * and hands over all messages of a round at once, not to be woken in between.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <x86intrin.h>

#include "fabric.h"
#include "place.h"
#include "region.h"
#include "suite.h"

#define ACCESS                                              \
	(IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE | \
	 IBV_ACCESS_REMOTE_READ)
#define MIB (1UL << 20)
#define GIB (1UL << 30)
/* A message that goes on behind the block of any fault. */
#define LONG (32UL << 20)
#define ROUNDS 15
#define MAX_BATCH 16

/* Messages of a kind between two regions. */
struct traffic {
	struct pair pair;
	enum ibv_wr_opcode opcode;
	size_t batch;
	struct ibv_sge near;
	uint64_t far_addr;
	uint32_t far_rkey;
};

static void require_odp(const struct fabric *fabric)
{
	if (!odp_caps(fabric, IBV_QPT_RC))
		skip(KERNEL, "%s has no on-demand paging", place.device);
}

/* Hand over a batch; each message is as far behind the one before as STRIDE says. */
static void post_batch(struct traffic *traffic, size_t stride)
{
	struct ibv_send_wr wrs[MAX_BATCH] = {}, *bad;
	int ret;

	for (size_t i = 0; i < traffic->batch; i++) {
		wrs[i].next = i + 1 < traffic->batch ? &wrs[i + 1] : NULL;
		wrs[i].sg_list = &traffic->near;
		wrs[i].num_sge = 1;
		wrs[i].opcode = traffic->opcode;
		wrs[i].wr.rdma.remote_addr = traffic->far_addr + i * stride;
		wrs[i].wr.rdma.rkey = traffic->far_rkey;
	}
	ret = ibv_post_send(traffic->pair.near.qp, wrs, &bad);
	if (ret)
		wrong("a batch was not posted: %s", strerror(ret));
}

static void wait_batch(struct traffic *traffic)
{
	for (size_t i = 0; i < traffic->batch; i++)
		end_wait_success(&traffic->pair.near, "sender");
}

static uint64_t time_batch(struct traffic *traffic, struct ibv_sge *receive)
{
	bool send = traffic->opcode == IBV_WR_SEND;
	uint64_t start, end;

	for (size_t i = 0; send && i < traffic->batch; i++)
		post_receive(&traffic->pair.far, receive, 1);
	start = __rdtsc();
	post_batch(traffic, 0);
	wait_batch(traffic);
	end = __rdtsc();
	for (size_t i = 0; send && i < traffic->batch; i++)
		end_wait_success(&traffic->pair.far, "receiver");
	return end - start;
}

/* Rounds that nothing was faulted in for, where the device counts faults. */
static void time_rounds(struct traffic *traffic, struct ibv_sge *receive)
{
	uint64_t rounds[ROUNDS], before = 0, after = 0;

	/* The first has the faults, the second warms the rest. */
	time_batch(traffic, receive);
	time_batch(traffic, receive);
	hw_counter("odp_faults", &before);
	for (size_t i = 0; i < ROUNDS; i++)
		rounds[i] = time_batch(traffic, receive);
	hw_counter("odp_faults", &after);
	if (after != before)
		wrong("%lu faults while all pages were there", after - before);
	for (size_t i = 0; i < ROUNDS; i++)
		printf("%lu\n", rounds[i] / traffic->batch);
}

static size_t batch_of(size_t bytes)
{
	size_t batch = 2 * MIB / bytes;

	return batch < MAX_BATCH ? batch : MAX_BATCH;
}

static enum ibv_wr_opcode opcode_of(const char *name)
{
	if (!strcmp(name, "write"))
		return IBV_WR_RDMA_WRITE;
	if (!strcmp(name, "read"))
		return IBV_WR_RDMA_READ;
	if (!strcmp(name, "send"))
		return IBV_WR_SEND;
	wrong("no operation is called %s", name);
}

static enum ibv_mtu mtu_of(unsigned int bytes)
{
	for (enum ibv_mtu mtu = IBV_MTU_256; mtu <= IBV_MTU_4096; mtu++)
		if (mtu_bytes(mtu) == bytes)
			return mtu;
	wrong("no path MTU has %u bytes", bytes);
}

static void transfer(const char *op, size_t bytes, enum ibv_mtu mtu, bool odp)
{
	int access = ACCESS | (odp ? IBV_ACCESS_ON_DEMAND : 0);
	size_t size = (bytes + PAGE - 1) & -PAGE;
	struct traffic traffic = { .opcode = opcode_of(op),
				   .batch = batch_of(bytes) };
	struct region near, far;
	struct fabric fabric;
	struct ibv_sge receive;

	fabric_open(&fabric);
	if (odp)
		require_odp(&fabric);
	if (mtu > fabric.mtu)
		wrong("the port's MTU is %u", mtu_bytes(fabric.mtu));
	pair_make(&traffic.pair, &fabric, IBV_QPT_RC, mtu, false);
	region_make(&near, &fabric, size, access);
	region_make(&far, &fabric, size, access);
	traffic.near = region_sge(&near, 0, bytes);
	traffic.far_addr = far.iova;
	traffic.far_rkey = far.mr->rkey;
	receive = region_sge(&far, 0, bytes);
	time_rounds(&traffic, &receive);
	if (traffic.opcode == IBV_WR_RDMA_READ)
		region_copied(&near, 0, &far, 0, bytes);
	else
		region_copied(&far, 0, &near, 0, bytes);
	region_check(&near);
	region_check(&far);
}

static void *reserve(size_t size)
{
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (memory == MAP_FAILED)
		wrong("no %zu bytes of address space", size);
	return memory;
}

static struct ibv_mr *must_register(const struct fabric *fabric, void *memory,
				    size_t size)
{
	struct ibv_mr *mr = ibv_reg_mr(fabric->pd, memory, size,
				       ACCESS | IBV_ACCESS_ON_DEMAND);

	if (!mr && errno == EINVAL)
		skip(KERNEL, "%zu bytes are too much to register", size);
	if (!mr)
		wrong("%zu bytes are not registered: %s", size,
		      strerror(errno));
	return mr;
}

static void time_register(size_t size)
{
	uint64_t rounds[ROUNDS], start;
	struct fabric fabric;
	struct ibv_mr *mr;
	void *memory;

	fabric_open(&fabric);
	require_odp(&fabric);
	memory = reserve(size);
	for (size_t i = 0; i < ROUNDS; i++) {
		start = __rdtsc();
		mr = must_register(&fabric, memory, size);
		rounds[i] = __rdtsc() - start;
		if (ibv_dereg_mr(mr))
			wrong("%zu bytes stay registered", size);
	}
	for (size_t i = 0; i < ROUNDS; i++)
		printf("%lu\n", rounds[i]);
}

static void write_cold(void)
{
	struct traffic traffic = { .opcode = IBV_WR_RDMA_WRITE, .batch = 1 };
	struct region near;
	struct fabric fabric;
	struct ibv_mr *mr;
	uint8_t *memory;

	fabric_open(&fabric);
	require_odp(&fabric);
	pair_make(&traffic.pair, &fabric, IBV_QPT_RC, fabric.mtu, false);
	region_make(&near, &fabric, LONG, ACCESS);
	memory = reserve(GIB);
	madvise(memory, GIB, MADV_NOHUGEPAGE);
	mr = must_register(&fabric, memory, GIB);
	traffic.near = region_sge(&near, 0, LONG);
	traffic.far_rkey = mr->rkey;
	for (size_t at = 0; at < GIB; at += LONG) {
		traffic.far_addr = (uintptr_t)memory + at;
		post_batch(&traffic, LONG);
		wait_batch(&traffic);
	}
	for (size_t at = 0; at < GIB; at += LONG)
		if (memcmp(memory + at, near.want, LONG))
			wrong("bytes in the message at %zu", at);
}

/* What rxe_bench.ko says to a command about a region. */
static double ask_module(const char *command, const struct region *region,
			 size_t number)
{
	int run = open("/sys/kernel/debug/rxe_bench/run", O_WRONLY | O_CLOEXEC);
	FILE *results = fopen("/sys/kernel/debug/rxe_bench/results", "re");
	double value;

	if (run < 0 || !results)
		wrong("rxe_bench.ko is not there");
	if (dprintf(run, "%s %u %zu", command, region->mr->lkey, number) < 0)
		wrong("'%s ... %zu': %s", command, number, strerror(errno));
	if (fscanf(results, "%lf", &value) != 1 || value <= 0)
		wrong("'%s ... %zu' has no result", command, number);
	close(run);
	fclose(results);
	return value;
}

static void time_copy(size_t bytes, bool odp)
{
	int access = ACCESS | (odp ? IBV_ACCESS_ON_DEMAND : 0);
	struct region region;
	struct fabric fabric;

	fabric_open(&fabric);
	if (odp)
		require_odp(&fabric);
	region_make(&region, &fabric, 2 * PAGE, access);
	printf("%.0f\n", ask_module("time", &region, bytes));
	memset(region.want, 0, bytes);
	region_check(&region);
}

/* The module inverts what it finds in the slices of those who copy. */
static void expect_inverted(struct region *region, size_t length)
{
	for (size_t i = 0; i < length; i++)
		region->want[i] = ~region->want[i];
}

static void time_copies_beside(void)
{
	struct region region;
	struct fabric fabric;
	double one, two;

	fabric_open(&fabric);
	require_odp(&fabric);
	region_make(&region, &fabric, 2 * MIB, ACCESS | IBV_ACCESS_ON_DEMAND);
	for (size_t i = 0; i < ROUNDS; i++) {
		region_fill(&region, 0, region.size);
		one = ask_module("copy", &region, 1);
		expect_inverted(&region, region.size / 2);
		region_check(&region);
		two = ask_module("copy", &region, 2);
		expect_inverted(&region, region.size);
		region_check(&region);
		printf("%.0f\n%.0f\n", one, two);
	}
}

int main(int argc, char **argv)
{
	const struct sched_param param = {};
	const char *what = argc > 1 ? argv[1] : "";

	if (places_choose(&place, 1) != 1)
		return 1;
	if (!strcmp(what, "copy-beside") && argc == 2) {
		time_copies_beside();
		return 0;
	}
	if (sched_setscheduler(0, SCHED_IDLE, &param))
		wrong("not scheduled behind all others: %s", strerror(errno));
	if (!strcmp(what, "transfer") && argc == 6)
		transfer(argv[2], strtoul(argv[3], NULL, 0),
			 mtu_of(strtoul(argv[4], NULL, 0)),
			 !strcmp(argv[5], "odp"));
	else if (!strcmp(what, "register") && argc == 3)
		time_register(strtoul(argv[2], NULL, 0) * GIB);
	else if (!strcmp(what, "copy") && argc == 4)
		time_copy(strtoul(argv[2], NULL, 0), !strcmp(argv[3], "odp"));
	else if (!strcmp(what, "write-cold") && argc == 2)
		write_cold();
	else
		wrong("rxe-cost.c says what can be asked");
	return 0;
}
