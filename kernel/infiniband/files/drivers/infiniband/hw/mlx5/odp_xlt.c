// SPDX-License-Identifier: GPL-2.0
/*
 * Copyright (c) 2026 The Twostep authors
 *
 * The translation table of an on-demand paging MR, as numbers (odp_xlt.h).
 *
 * Filling writes only entries that a run covers: the buffer is zero before, so holes are
 * holes whatever the buffer held last.
 *
 * Zapping writes zeros, and zeros over a hole change nothing, while every update of the
 * table is a round trip to the device. So spans with a small gap between them are zapped
 * as one.
 */

#include <linux/align.h>
#include <linux/minmax.h>
#include <linux/overflow.h>
#include <rdma/ib_umem_odp.h>

#include "mlx5_ib.h"
#include "odp_xlt.h"

/* Holes that may be zapped between two spans: 4 KiB of zeros cost less than a round trip. */
#define MAX_GAP 512

/**
 * mlx5_odp_check_range() - whether a table can stand for a range
 * @start: user address of the first byte
 * @length: bytes
 * @iova: address of the first byte on the wire
 * @shift: log2 of the bytes of an entry
 *
 * The device takes the place in an entry from the address on the wire, and counts the
 * entries with 31 bits.
 *
 * Return: 0; -EINVAL if the two addresses differ modulo an entry, or the wire's would
 * overflow; -EOPNOTSUPP if there are too many entries.
 */
int mlx5_odp_check_range(u64 start, u64 length, u64 iova, unsigned int shift)
{
	u64 entry = BIT_ULL(shift);
	u64 end;

	if ((start ^ iova) & (entry - 1) ||
	    check_add_overflow(iova, length, &end) ||
	    check_add_overflow(end, entry - 1, &end))
		return -EINVAL;
	if ((end - ALIGN_DOWN(iova, entry)) >> shift > INT_MAX)
		return -EOPNOTSUPP;
	return 0;
}

/**
 * mlx5_odp_span_of() - the entries of user addresses
 * @base: user address of entry 0
 * @start: first user address
 * @end: user address behind the last byte
 * @shift: log2 of the bytes of an entry
 *
 * Return: the entries that hold any of the bytes.
 */
struct mlx5_odp_span mlx5_odp_span_of(u64 base, u64 start, u64 end,
				      unsigned int shift)
{
	u64 first = (start - base) >> shift;

	if (start >= end)
		return (struct mlx5_odp_span){};
	return (struct mlx5_odp_span){
		.first = first,
		.nr = ((end - 1 - base) >> shift) - first + 1,
	};
}

/**
 * mlx5_odp_span_join() - zap two spans as one if that is cheaper
 * @span: the first; becomes both
 * @next: the second
 *
 * Return: false if they are too far apart or in descending order; nothing changed then.
 */
bool mlx5_odp_span_join(struct mlx5_odp_span *span,
			const struct mlx5_odp_span *next)
{
	u64 behind = span->first + span->nr;

	if (!span->nr) {
		*span = *next;
		return true;
	}
	/* Of a span that is not behind the first one the gap wraps around. */
	if (next->first - behind > MAX_GAP)
		return false;
	span->nr = next->first + next->nr - span->first;
	return true;
}

/**
 * mlx5_odp_fill() - write the entries of a run into a buffer
 * @mtt: buffer for the entries of @span, zero where no run was filled in
 * @span: which entries the buffer is for
 * @base: user address of entry 0
 * @shift: log2 of the bytes of an entry
 * @run: the run; what lies outside of @span is left out
 */
void mlx5_odp_fill(__be64 *mtt, const struct mlx5_odp_span *span, u64 base,
		   unsigned int shift, const struct ib_umem_odp_run *run)
{
	u64 run_first = (run->addr - base) >> shift;
	u64 first = max(run_first, span->first);
	u64 behind =
		min(run_first + (run->len >> shift), span->first + span->nr);
	u64 entry = run->dma + ((first - run_first) << shift);

	if (run->access & PFN_TAG_READ)
		entry |= MLX5_IB_MTT_READ;
	if (run->access & PFN_TAG_WRITE)
		entry |= MLX5_IB_MTT_WRITE;
	for (; first < behind; first++, entry += BIT_ULL(shift))
		mtt[first - span->first] = cpu_to_be64(entry);
}
