/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Copyright (c) 2026 The Twostep authors */
/*
 * What ends a test that is late, and first says what it hangs on: where its threads are, its
 * queue pairs, the device's counters, the memory it registered, and what the kernel said since
 * the test began.
 *
 * A thread of the suite's process does it: a process that hangs in the kernel cannot speak.
 */
#ifndef WATCH_H
#define WATCH_H

#include <sys/types.h>

/* Begin to watch a test that may take @seconds; @process is read when they are over. */
void watch_begin(const pid_t *process, double seconds);

/* It has ended. */
void watch_end(void);

#endif /* WATCH_H */
