// SPDX-License-Identifier: GPL-2.0
/*
 * Copyright (c) 2026 The Twostep authors
 *
 * rxe_bench: what a copy to a memory region of soft-RoCE costs, and whether copies to one
 * region run beside each other.
 *
 * It calls what soft-RoCE's responder calls for each packet of a write: rxe_mr_copy(). The
 * region is that of the process that writes the command, so it stays meanwhile. Its commands
 * (command.h says how they are given):
 *
 * time LKEY BYTES	"INSTRUCTIONS" of copying BYTES zeros to the start of the region
 * copy LKEY COPIERS	"NANOSECONDS" of copying PASSES times, on COPIERS CPUs at once
 *
 * "copy" cuts the region into two slices, and each copier has one: nobody shares a page, all
 * share the region. First, not timed, a copier reads its slice through the same function,
 * inverts what it read and writes that: the pages are in and writable then, and whoever has
 * the memory sees at the end whether all went where it should. A work item of a CPU is a
 * copier. They begin together: the time is from the first that begins to the last that ends.
 * It is time, not instructions, and worth something only beside another of the same moments.
 */
#include <linux/cpumask.h>
#include <linux/kernel.h>
#include <linux/kprobes.h>
#include <linux/ktime.h>
#include <linux/module.h>
#include <linux/netdevice.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/vmalloc.h>
#include <linux/workqueue.h>

#include "rxe.h"

#include "clock.h"
#include "command.h"

#define NETDEV "d0" /* what ci/vm --rxe gives soft-RoCE */
#define COPIERS 2
#define PACKET 4096 /* the largest path MTU */
#define PASSES 64
#define ROUNDS 32

typedef int mr_command_fn(struct rxe_mr *mr, unsigned int number);

struct copier {
	struct work_struct work;
	struct rxe_mr *mr;
	u64 iova;
	size_t size;
	u8 *bytes;
	atomic_t *late;
	ktime_t start, end;
	int err;
};

static typeof(rxe_mr_copy) *mr_copy;

static int copy_bytes(struct rxe_mr *mr, u64 iova, u8 *bytes, size_t size,
		      size_t ahead, enum rxe_mr_copy_dir dir)
{
#ifdef BENCH_AHEAD
	return mr_copy(mr, iova, bytes, size, ahead, dir);
#else
	return mr_copy(mr, iova, bytes, size, dir);
#endif
}

static int copy_slice(struct copier *copier, enum rxe_mr_copy_dir dir)
{
	size_t at;
	int err = 0;

	for (at = 0; at < copier->size && !err; at += PACKET)
		err = copy_bytes(copier->mr, copier->iova + at,
				 copier->bytes + at, PACKET, copier->size - at,
				 dir);
	return err;
}

static int warm_up(struct copier *copier)
{
	size_t at;
	int err = copy_slice(copier, RXE_FROM_MR_OBJ);

	if (err)
		return err;
	for (at = 0; at < copier->size; at++)
		copier->bytes[at] = ~copier->bytes[at];
	return copy_slice(copier, RXE_TO_MR_OBJ);
}

static void copy_timed(struct work_struct *work)
{
	struct copier *copier = container_of(work, struct copier, work);
	unsigned int pass;

	copier->err = warm_up(copier);
	/* Each has a CPU: who waits keeps nobody from coming. */
	atomic_dec(copier->late);
	while (atomic_read(copier->late))
		cpu_relax();

	copier->start = ktime_get();
	for (pass = 0; pass < PASSES && !copier->err; pass++) {
		copier->err = copy_slice(copier, RXE_TO_MR_OBJ);
		cond_resched();
	}
	copier->end = ktime_get();
}

/* How long NR copiers take together, or the first's error. */
static int run_copiers(struct copier *copiers, unsigned int nr)
{
	ktime_t start = KTIME_MAX, end = 0;
	unsigned int cpu, i = 0;

	for_each_online_cpu(cpu) {
		if (i == nr)
			break;
		queue_work_on(cpu, system_long_wq, &copiers[i++].work);
	}
	for (i = 0; i < nr; i++) {
		flush_work(&copiers[i].work);
		start = min(start, copiers[i].start);
		end = max(end, copiers[i].end);
	}
	for (i = 0; i < nr; i++)
		if (copiers[i].err)
			return copiers[i].err;
	bench_say("%lld\n", ktime_to_ns(ktime_sub(end, start)));
	return 0;
}

static int copy_on_cpus(struct rxe_mr *mr, unsigned int nr)
{
	size_t size = mr->ibmr.length / COPIERS;
	struct copier copiers[COPIERS] = {};
	atomic_t late = ATOMIC_INIT(nr);
	unsigned int i;
	u8 *bytes;
	int err;

	if (!nr || nr > COPIERS || nr > num_online_cpus() ||
	    mr->ibmr.length % (COPIERS * PACKET))
		return -EINVAL;
	bytes = vmalloc(COPIERS * size);
	if (!bytes)
		return -ENOMEM;
	for (i = 0; i < nr; i++) {
		copiers[i].mr = mr;
		copiers[i].iova = mr->ibmr.iova + i * size;
		copiers[i].size = size;
		copiers[i].bytes = bytes + i * size;
		copiers[i].late = &late;
		INIT_WORK_ONSTACK(&copiers[i].work, copy_timed);
	}
	err = run_copiers(copiers, nr);
	for (i = 0; i < nr; i++)
		destroy_work_on_stack(&copiers[i].work);
	vfree(bytes);
	return err;
}

/* The cheapest of some: a copy may sleep, so interrupts stay on. The first faults. */
static int time_copy(struct rxe_mr *mr, unsigned int size)
{
	u64 start, best = U64_MAX;
	unsigned int round;
	int err = 0;
	u8 *bytes;

	if (!size || size > mr->ibmr.length)
		return -EINVAL;
	bytes = kzalloc(size, GFP_KERNEL);
	if (!bytes)
		return -ENOMEM;
	for (round = 0; round < ROUNDS && !err; round++) {
		start = bench_clock();
		err = copy_bytes(mr, mr->ibmr.iova, bytes, size, size,
				 RXE_TO_MR_OBJ);
		best = min(best, bench_elapsed(start, bench_clock()));
	}
	kfree(bytes);
	if (!err)
		bench_say("%llu\n", best);
	return err;
}

static int with_mr_of(struct rxe_dev *rxe, u32 lkey, mr_command_fn *what,
		      unsigned int number)
{
	struct rxe_pool_elem *elem = xa_load(&rxe->mr_pool.xa, lkey >> 8);
	struct rxe_mr *mr = elem ? elem->obj : NULL;

	return mr && mr->ibmr.lkey == lkey ? what(mr, number) : -ENOENT;
}

static int with_mr(u32 lkey, mr_command_fn *what, unsigned int number)
{
	struct net_device *netdev = dev_get_by_name(&init_net, NETDEV);
	struct ib_device *ibdev;
	int err;

	if (!netdev)
		return -ENODEV;
	ibdev = ib_device_get_by_netdev(netdev, RDMA_DRIVER_RXE);
	dev_put(netdev);
	if (!ibdev)
		return -ENODEV;
	err = with_mr_of(to_rdev(ibdev), lkey, what, number);
	ib_device_put(ibdev);
	return err;
}

static int command(char **words, unsigned int nr)
{
	unsigned int number;
	u32 lkey;

	if (nr != 3 || kstrtou32(words[1], 0, &lkey) ||
	    kstrtouint(words[2], 0, &number))
		return -EINVAL;
	if (!strcmp(words[0], "time"))
		return with_mr(lkey, time_copy, number);
	if (!strcmp(words[0], "copy"))
		return with_mr(lkey, copy_on_cpus, number);
	return -EINVAL;
}

static int __init bench_init(void)
{
	/* It is not exported; a probe finds it all the same. */
	struct kprobe probe = { .symbol_name = "rxe_mr_copy" };
	int err = register_kprobe(&probe);

	if (err)
		return err;
	mr_copy = (typeof(mr_copy))probe.addr;
	unregister_kprobe(&probe);
	bench_commands_add("rxe_bench", command);
	return 0;
}

static void __exit bench_exit(void)
{
	bench_commands_remove();
}

module_init(bench_init);
module_exit(bench_exit);

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("What a copy to a memory region of soft-RoCE costs");
