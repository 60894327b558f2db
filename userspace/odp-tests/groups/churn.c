// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
// Copyright (c) 2026 The Twostep authors
/*
 * pages move, go and come back while the device uses them, and no byte is lost.
 *
 * One thread does something to the memory of both sides again and again, as fast as it can: to
 * parts that are drawn, whatever the device does there at the moment. Another moves data and
 * compares every byte after each message. What is done leaves the process its bytes; who does
 * it looks no different to the program without a device, and must not with one. (Where they go
 * for a moment, a message may end with an error: rdma-vanish.)
 *
 * The memory is the process's own, or that of a file; the device must not see a difference.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "backing.h"
#include "fabric.h"
#include "region.h"
#include "options.h"
#include "proc.h"
#include "suite.h"

/* Of linux/mman.h, where the C library does not have them. */
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif
#ifndef MADV_SOFT_OFFLINE
#define MADV_SOFT_OFFLINE 101
#endif
#ifndef MPOL_MF_MOVE
#define MPOL_MF_MOVE (1 << 1)
#endif

#define SIZE (6UL << 20)
/* Messages, and how often something must have been done to the memory meanwhile, at least. */
#define MESSAGES 150
#define DEEDS 30
/* Pages that something is done to at a time, at most. */
#define PART 64

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
 * struct deed - what is done
 * @run: does it, to a part of a region; returns false if the kernel cannot
 * @event: the kernel counts it in /proc/vmstat under this name, or NULL
 * @backing: whose pages it is done to
 */
struct deed {
	bool (*run)(struct region *region, size_t at, size_t length);
	const char *event;
	enum backing backing;
};

/**
 * struct churn - the other thread
 * @stage: whose memory
 * @deed: what it does
 * @random: its own sequence
 * @ends: told to
 * @done: how often it was done
 */
struct churn {
	struct stage *stage;
	const struct deed *deed;
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
		size_t pages = 1 + next(&churn->random) % PART;

		if (pages > SIZE / PAGE - at)
			pages = SIZE / PAGE - at;
		if (churn->deed->run(region, at * PAGE, pages * PAGE))
			__atomic_fetch_add(&churn->done, 1, __ATOMIC_RELAXED);
	}
	return NULL;
}

/* In half of the messages at the same place of a page, so that whole pages become equal. */
static size_t far_end(size_t near_at, size_t length)
{
	size_t at = below(SIZE - length);

	if (below(2) && at >= PAGE)
		at = at / PAGE * PAGE - PAGE + near_at % PAGE;
	return at;
}

static void one_message(struct stage *stage)
{
	static const enum ibv_wr_opcode opcodes[] = { IBV_WR_RDMA_WRITE,
						      IBV_WR_RDMA_READ,
						      IBV_WR_SEND };
	enum ibv_wr_opcode opcode = opcodes[below(COUNT(opcodes))];
	struct region *near = &stage->sides[0], *far = &stage->sides[1];
	size_t length = 1 + below(below(8) ? 9000 : 200000);
	size_t near_at = below(SIZE - length);
	size_t far_at = far_end(near_at, length);
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

static void open_stage(struct stage *stage, enum backing backing)
{
	fabric_open_odp(&stage->fabric, IBV_QPT_RC);
	pair_make(&stage->pair, &stage->fabric, IBV_QPT_RC, IBV_MTU_4096,
		  false);
	for (int i = 0; i < 2; i++) {
		region_make(&stage->sides[i], &stage->fabric, SIZE,
			    ALL_ACCESS | IBV_ACCESS_ON_DEMAND);
		region_back(&stage->sides[i], backing);
	}
}

static void close_stage(struct stage *stage)
{
	pair_destroy(&stage->pair);
	for (int i = 0; i < 2; i++)
		region_destroy(&stage->sides[i]);
}

/* Whether enough was done, the device noticed, and the kernel did what the deed is about. */
static bool is_done(const struct churn *churn, uint64_t taken, uint64_t events)
{
	const char *event = churn->deed->event;

	return __atomic_load_n(&churn->done, __ATOMIC_RELAXED) >= DEEDS &&
	       was_taken(taken) && (!event || vm_event(event) > events);
}

static void run_churn(const void *what)
{
	const struct deed *deed = what;
	struct stage stage = {};
	struct churn other = { .stage = &stage, .deed = deed };
	uint64_t taken, events;
	pthread_t thread;

	other.random = draw() | 1;
	open_stage(&stage, deed->backing);
	if (!deed->run(&stage.sides[0], 0, PAGE))
		skip(errno == EPERM || errno == EACCES ? MACHINE : KERNEL,
		     "it cannot: %s", strerror(errno));
	taken = pages_taken();
	events = deed->event ? vm_event(deed->event) : 0;
	if (pthread_create(&thread, NULL, churn, &other))
		wrong("no thread");
	for (size_t i = 0;
	     i < (options.count ?: MESSAGES) || !is_done(&other, taken, events);
	     i++) {
		snprintf(doing, sizeof(doing),
			 "message %zu, until pages were taken and %s counted",
			 i, deed->event ?: "nothing else");
		one_message(&stage);
	}
	__atomic_store_n(&other.ends, true, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
	*doing = 0;
	printf("# done %lu times\n", other.done);
	want_taken(taken);
	close_stage(&stage);
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

/* How often ksmd has looked at all pages that it may merge. */
static uint64_t merge_scans(void)
{
	uint64_t scans;

	if (!proc_number("/sys/kernel/mm/ksm/full_scans", &scans))
		wrong("ksmd counts no scans");
	return scans;
}

/*
 * Equal pages of both sides become one that nobody may write; the device's next write to one of
 * them needs its own again. ksmd takes a page that it has seen twice without a change.
 */
static bool merge(struct region *region, size_t at, size_t length)
{
	const struct timespec moment = { .tv_nsec = 1000000 };
	uint64_t scans = merge_scans();

	if (madvise(region->bytes, SIZE, MADV_MERGEABLE) ||
	    (at / PAGE % 8 == 7 &&
	     madvise(region->bytes + at, length, MADV_UNMERGEABLE)))
		return false;
	/* A first call is asked whether the kernel can: nothing is there to be scanned. */
	while (length > PAGE && merge_scans() == scans)
		nanosleep(&moment, NULL);
	return true;
}

/* To the other node: each time to the one that the last pages did not go to. */
static bool migrate(struct region *region, size_t at, size_t length)
{
	int nodes[PART], status[PART];
	size_t nr = length / PAGE;
	void *pages[PART];
	static int node;

	node = !node;
	for (size_t i = 0; i < nr; i++) {
		pages[i] = region->bytes + at + i * PAGE;
		nodes[i] = node;
	}
	return syscall(SYS_move_pages, 0, nr, pages, nodes, status,
		       MPOL_MF_MOVE) >= 0;
}

/*
 * Pages at one end of a node's memory go to the other. They would stay there: those of a part
 * have come from the other node just now, to wherever there was room.
 */
static bool compact(struct region *region, size_t at, size_t length)
{
	FILE *file;

	if (!migrate(region, at, length))
		return false;
	file = fopen("/proc/sys/vm/compact_memory", "we");
	if (!file)
		return false;
	fprintf(file, "1");
	return !fclose(file);
}

/* The same pages of the file are mapped once more, and then moved over themselves. */
static bool remap(struct region *region, size_t at, size_t length)
{
	uint8_t *bytes = region->bytes + at;
	void *again = mremap(bytes, 0, length, MREMAP_MAYMOVE);

	return again != MAP_FAILED &&
	       mremap(again, length, length, MREMAP_MAYMOVE | MREMAP_FIXED,
		      bytes) == bytes;
}

/* Pages of a file that the process drops are still the file's. */
static bool drop(struct region *region, size_t at, size_t length)
{
	return !madvise(region->bytes + at, length, MADV_DONTNEED);
}

#define DEED(name, run, event, backing)               \
	{                                             \
		name, run_churn, &(const struct deed) \
		{                                     \
			run, event, backing           \
		}                                     \
	}

static const struct test tests[] = {
	DEED("invalidate.pageout", pageout, "pswpout", ANONYMOUS),
	DEED("invalidate.pageout.memfd", pageout, "pswpout", MEMFD),
	DEED("invalidate.pageout.tmpfs", pageout, "pswpout", TMPFS),
	DEED("invalidate.write_protect", write_protect, NULL, ANONYMOUS),
	DEED("invalidate.write_protect.memfd", write_protect, NULL, MEMFD),
	DEED("invalidate.collapse", collapse, "thp_collapse_alloc", ANONYMOUS),
	DEED("invalidate.collapse.memfd", collapse, "thp_collapse_alloc",
	     MEMFD),
	DEED("invalidate.split", split, "thp_split_page", ANONYMOUS),
	DEED("invalidate.split.memfd", split, "thp_split_page", MEMFD),
	DEED("invalidate.soft_offline", soft_offline, "pgmigrate_success",
	     ANONYMOUS),
	DEED("invalidate.soft_offline.memfd", soft_offline, "pgmigrate_success",
	     MEMFD),
	DEED("invalidate.fork_child", fork_child, NULL, ANONYMOUS),
	DEED("invalidate.merge", merge, "cow_ksm", ANONYMOUS),
	DEED("invalidate.migrate", migrate, "pgmigrate_success", ANONYMOUS),
	DEED("invalidate.migrate.memfd", migrate, "pgmigrate_success", MEMFD),
	DEED("invalidate.compact", compact, "compact_isolated", ANONYMOUS),
	DEED("invalidate.remap.memfd", remap, NULL, MEMFD),
	DEED("invalidate.drop.memfd", drop, NULL, MEMFD),
};

TESTS(tests)
