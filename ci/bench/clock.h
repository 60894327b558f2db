/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Copyright (c) 2026 The Twostep authors
 *
 * The instruction clock, see clock.c.
 */
#ifndef BENCH_CLOCK_H
#define BENCH_CLOCK_H

#include <linux/types.h>

u64 bench_clock(void);
u64 bench_elapsed(u64 from, u64 till);
int bench_calibrate(void);

#endif
