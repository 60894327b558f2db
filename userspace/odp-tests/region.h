/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Copyright (c) 2026 The Twostep authors */
/*
 * Registered memory, and what it must hold.
 *
 * A region remembers every byte that it ought to have: whoever writes through the region, or
 * has a device write to it, says so, and region_check() compares all of it, bytes that nobody
 * should have touched included.
 */
#ifndef REGION_H
#define REGION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fabric.h"

#define PAGE 4096UL

/**
 * enum presence - what of on-demand paging memory the device has when it comes to it
 * @WARM: what it had
 * @COLD: nothing; the process has all
 * @HALF: every other page
 * @EMPTY: nothing, and the process neither: the bytes are 0
 */
enum presence { WARM, COLD, HALF, EMPTY };

/**
 * struct region - memory
 * @bytes: where
 * @size: whole pages
 * @want: what it must hold
 * @mr: its registration
 * @iova: what its first byte is called on the wire
 * @odp: on demand, else pinned
 */
struct region {
	uint8_t *bytes;
	size_t size;
	uint8_t *want;
	struct ibv_mr *mr;
	uint64_t iova;
	bool odp;
};

/* All that a test may do with memory. */
#define ALL_ACCESS                                           \
	(IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE |  \
	 IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_ATOMIC | \
	 IBV_ACCESS_MW_BIND)

/* Map and register memory, filled with what nobody expects. Ends the test if it cannot. */
void region_make(struct region *region, const struct fabric *fabric,
		 size_t size, int access);
/* The same of memory that is mapped already, and writable. */
void region_over(struct region *region, const struct fabric *fabric,
		 void *bytes, size_t size, int access);
/* Deregister it and unmap the memory. */
void region_destroy(struct region *region);

/* Write something new. */
void region_fill(struct region *region, size_t at, size_t length);

/* A device, or somebody, copied from one to the other: book it. */
void region_copied(struct region *to, size_t to_at, const struct region *from,
		   size_t from_at, size_t length);

/* Take pages from the device. Only for on-demand paging regions without traffic. */
void region_prepare(struct region *region, enum presence presence);

/* Compare every byte; end the test at the first that is wrong. */
void region_check(const struct region *region);

struct ibv_sge region_sge(const struct region *region, size_t at,
			  size_t length);

/* A counter of the device, by its name in hw_counters. Returns false if it does not have it. */
bool hw_counter(const char *name, uint64_t *value);

#endif /* REGION_H */
