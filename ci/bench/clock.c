// SPDX-License-Identifier: GPL-2.0
/*
 * Copyright (c) 2026 The Twostep authors
 *
 * The instruction clock. Under QEMU's -icount shift=0 the time stamp counter is virtual
 * time in nanoseconds, and one instruction takes one nanosecond. Nowhere else does this
 * module measure: bench_calibrate() refuses a clock that does not count instructions.
 *
 * What the two reads of a measure cost by themselves is measured too and taken off.
 */
#include <linux/irqflags.h>
#include <asm/msr.h>
#include <asm/tsc.h>

#include "clock.h"
#include "command.h"

#define LOOPS 100000UL /* of two instructions */
#define SLACK 10 /* instructions around the loop */

static u64 overhead;

u64 bench_clock(void)
{
	return rdtsc_ordered();
}

u64 bench_elapsed(u64 from, u64 till)
{
	return till - from - overhead;
}

static u64 empty(void)
{
	u64 from = bench_clock();

	return bench_clock() - from;
}

static u64 counted_loop(void)
{
	unsigned long left = LOOPS;
	u64 from = bench_clock();

	asm volatile("1: dec %0\n\tjnz 1b" : "+r"(left) : : "cc");
	return bench_clock() - from;
}

int bench_calibrate(void)
{
	unsigned long flags;
	u64 took;

	local_irq_save(flags);
	empty();
	overhead = empty();
	counted_loop();
	took = counted_loop() - overhead;
	local_irq_restore(flags);

	bench_say("clock.overhead %llu instructions\n", overhead);
	bench_say("clock.loop_%lu %llu instructions\n", 2 * LOOPS, took);
	return took >= 2 * LOOPS && took <= 2 * LOOPS + SLACK ? 0 : -ERANGE;
}
