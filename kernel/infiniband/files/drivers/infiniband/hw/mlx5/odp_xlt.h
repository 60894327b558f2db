/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Copyright (c) 2026 The Twostep authors
 *
 * The translation table of an on-demand paging MR, as numbers: no device, no locks.
 *
 * The table has one entry of BIT(shift) bytes for each entry of the umem, entry 0 at
 * ib_umem_start(). An entry is 0, a hole at which the device reports a fault, or a DMA
 * address with the rights in its low bits.
 */
#ifndef _MLX5_IB_ODP_XLT_H
#define _MLX5_IB_ODP_XLT_H

#include <linux/types.h>

struct ib_umem_odp_run;

/**
 * struct mlx5_odp_span - neighbouring entries of a table
 * @first: number of the first
 * @nr: how many, 0 for none
 */
struct mlx5_odp_span {
	u64 first;
	u64 nr;
};

int mlx5_odp_check_range(u64 start, u64 length, u64 iova, unsigned int shift);
struct mlx5_odp_span mlx5_odp_span_of(u64 base, u64 start, u64 end,
				      unsigned int shift);
bool mlx5_odp_span_join(struct mlx5_odp_span *span,
			const struct mlx5_odp_span *next);
void mlx5_odp_fill(__be64 *mtt, const struct mlx5_odp_span *span, u64 base,
		   unsigned int shift, const struct ib_umem_odp_run *run);

#endif /* _MLX5_IB_ODP_XLT_H */
