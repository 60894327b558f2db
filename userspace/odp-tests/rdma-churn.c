// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
// Copyright (c) 2026 The Twostep authors
/*
 * rdma-churn: pages move, go and come back while the device uses them, and no byte is lost.
 *
 * One thread does something to the memory of both sides again and again, as fast as it can: to
 * parts that are drawn, whatever the device does there at the moment. Another moves data and
 * compares every byte after each message. What is done leaves the process its bytes; who does
 * it looks no different to the program without a device, and must not with one.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fabric.h"
#include "region.h"
#include "suite.h"

/* Of linux/mman.h, where the C library does not have them. */
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif
#ifndef MADV_SOFT_OFFLINE
#define MADV_SOFT_OFFLINE 101
#endif

#define SIZE (6UL << 20)
/* Messages, and how often something must have been done to the memory meanwhile, at least. */
#define MESSAGES 150
#define DEEDS 100

/**
 * struct stage - the two sides
 * @fabric: the device
 * @pair: queue pairs
 * @sides: regions of the near and the far end, both on demand
 */
struct stage {
	struct fabric fabric;
	struct pair pair;
	struct region sides[2];
};

/**
 * struct churn - the other thread
 * @stage: whose memory
 * @deed: what is done, to a part of a region; returns false if the kernel cannot
 * @random: its own sequence
 * @ends: told to
 * @done: how often it was done
 */
struct churn {
	struct stage *stage;
	bool (*deed)(struct region *region, size_t at, size_t length);
	uint64_t random;
	bool ends;
	unsigned long done;
};

static uint64_t next(uint64_t *random)
{
	*random ^= *random << 13;
	*random ^= *random >> 7;
	*random ^= *random << 17;
	return *random;
}

static void *churn(void *arg)
{
	struct churn *churn = arg;

	while (!__atomic_load_n(&churn->ends, __ATOMIC_RELAXED)) {
		struct region *region =
			&churn->stage->sides[next(&churn->random) % 2];
		size_t at = next(&churn->random) % (SIZE / PAGE);
		size_t pages = 1 + next(&churn->random) % 64;

		if (pages > SIZE / PAGE - at)
			pages = SIZE / PAGE - at;
		if (churn->deed(region, at * PAGE, pages * PAGE))
			__atomic_fetch_add(&churn->done, 1, __ATOMIC_RELAXED);
	}
	return NULL;
}

static void one_message(struct stage *stage)
{
	static const enum ibv_wr_opcode opcodes[] = { IBV_WR_RDMA_WRITE,
						      IBV_WR_RDMA_READ,
						      IBV_WR_SEND };
	enum ibv_wr_opcode opcode = opcodes[below(COUNT(opcodes))];
	struct region *near = &stage->sides[0], *far = &stage->sides[1];
	size_t length = 1 + below(below(8) ? 9000 : 200000);
	size_t near_at = below(SIZE - length), far_at = below(SIZE - length);
	struct ibv_sge from = region_sge(near, near_at, length);
	struct ibv_sge to = region_sge(far, far_at, length);
	struct ibv_send_wr wr = { .sg_list = &from,
				  .num_sge = 1,
				  .opcode = opcode },
			   *bad;
	bool pull = opcode == IBV_WR_RDMA_READ;
	int ret;

	wr.wr.rdma.remote_addr = far->iova + far_at;
	wr.wr.rdma.rkey = far->mr->rkey;
	if (pull)
		region_fill(far, far_at, length);
	else
		region_fill(near, near_at, length);
	if (opcode == IBV_WR_SEND)
		post_receive(&stage->pair.far, &to, 1);
	ret = ibv_post_send(stage->pair.near.qp, &wr, &bad);
	if (ret)
		wrong("not posted: %s", strerror(ret));
	end_wait_success(&stage->pair.near, "sender");
	if (opcode == IBV_WR_SEND)
		end_wait_success(&stage->pair.far, "receiver");
	if (pull)
		region_copied(near, near_at, far, far_at, length);
	else
		region_copied(far, far_at, near, near_at, length);
	region_check(near);
	region_check(far);
}

static void run_churn(const void *what)
{
	struct stage stage = {};
	struct churn other = { .stage = &stage };
	uint64_t before = 0, after = 0;
	pthread_t thread;
	bool counted;

	memcpy(&other.deed, what, sizeof(other.deed));
	other.random = draw() | 1;
	fabric_open(&stage.fabric);
	if (!odp_caps(&stage.fabric, IBV_QPT_RC))
		skip("the device has no on-demand paging for RC");
	pair_make(&stage.pair, &stage.fabric, IBV_QPT_RC, IBV_MTU_4096, false);
	for (int i = 0; i < 2; i++)
		region_make(&stage.sides[i], &stage.fabric, SIZE,
			    ALL_ACCESS | IBV_ACCESS_ON_DEMAND);
	if (!other.deed(&stage.sides[0], 0, PAGE))
		skip("the kernel cannot: %s", strerror(errno));
	counted = hw_counter(&stage.fabric, "odp_page_invalidations", &before);
	if (pthread_create(&thread, NULL, churn, &other))
		wrong("no thread");
	for (size_t i = 0;
	     i < (options.count ?: MESSAGES) ||
	     __atomic_load_n(&other.done, __ATOMIC_RELAXED) < DEEDS;
	     i++) {
		snprintf(doing, sizeof(doing), "message %zu", i);
		one_message(&stage);
	}
	__atomic_store_n(&other.ends, true, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
	*doing = 0;
	printf("# done %lu times\n", other.done);
	if (counted &&
	    hw_counter(&stage.fabric, "odp_page_invalidations", &after) &&
	    after == before)
		wrong("nothing was taken from the device");
	pair_destroy(&stage.pair);
	for (int i = 0; i < 2; i++)
		region_destroy(&stage.sides[i]);
}

static bool pageout(struct region *region, size_t at, size_t length)
{
	return !madvise(region->bytes + at, length, MADV_PAGEOUT);
}

static bool write_protect(struct region *region, size_t at, size_t length)
{
	return !mprotect(region->bytes + at, length,
			 PROT_READ | PROT_WRITE | PROT_EXEC) &&
	       !mprotect(region->bytes + at, length, PROT_READ | PROT_WRITE);
}

static bool collapse(struct region *region, size_t at, size_t length)
{
	/* Huge pages where there is room for one; EINVAL and EAGAIN are its way to say no. */
	return !madvise(region->bytes + at,
			length + (2UL << 20) > SIZE - at ? SIZE - at :
							   length + (2UL << 20),
			MADV_COLLAPSE) ||
	       errno != ENOSYS;
}

static bool soft_offline(struct region *region, size_t at, size_t length)
{
	(void)length;
	return !madvise(region->bytes + at, PAGE, MADV_SOFT_OFFLINE) ||
	       errno != EPERM;
}

static bool split(struct region *region, size_t at, size_t length)
{
	FILE *file = fopen("/sys/kernel/debug/split_huge_pages", "we");

	if (!file)
		return false;
	madvise(region->bytes + at, SIZE - at, MADV_COLLAPSE);
	fprintf(file, "%d,%#lx,%#lx", getpid(),
		(unsigned long)(region->bytes + at),
		(unsigned long)(region->bytes + at + length));
	return !fclose(file) || errno == EINVAL;
}

/* Shares all pages with a child: whoever writes next has a page of his own. */
static bool fork_child(struct region *region, size_t at, size_t length)
{
	int status;
	pid_t child = fork();

	(void)region, (void)at, (void)length;
	if (!child) {
		/* The child writes, too: into copies that nobody else sees. */
		for (size_t i = 0; i < length; i += PAGE)
			region->bytes[at + i] ^= 0xff;
		_exit(0);
	}
	return child > 0 && waitpid(child, &status, 0) == child && !status;
}

static bool merge(struct region *region, size_t at, size_t length)
{
	return !madvise(region->bytes + at, length,
			at / PAGE % 2 ? MADV_MERGEABLE : MADV_UNMERGEABLE);
}

typedef bool deed(struct region *region, size_t at, size_t length);

#define DEED(what)                               \
	{                                        \
		#what, run_churn, &(deed *const) \
		{                                \
			what                     \
		}                                \
	}

static const struct test tests[] = {
	DEED(pageout),	    DEED(write_protect), DEED(collapse), DEED(split),
	DEED(soft_offline), DEED(fork_child),	 DEED(merge),
};

int main(int argc, char **argv)
{
	return run_tests(argc, argv, tests, COUNT(tests));
}
