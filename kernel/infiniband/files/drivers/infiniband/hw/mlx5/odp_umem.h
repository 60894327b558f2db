/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Copyright (c) 2026 The Twostep authors
 *
 * On-demand paging MRs on the run-based umem: what mr.c, umr.c and odp.c call.
 */
#ifndef _MLX5_IB_ODP_UMEM_H
#define _MLX5_IB_ODP_UMEM_H

#include <linux/bits.h>
#include <linux/types.h>
#include <rdma/ib_umem_odp.h>

struct mlx5_ib_mr;

/* How a fault is handled: for reading only, by what the process has at hand, ... */
#define MLX5_PF_FLAGS_DOWNGRADE BIT(1)
#define MLX5_PF_FLAGS_SNAPSHOT BIT(2)
/* ... with the mkey enabled at the end, because the application asked for it. */
#define MLX5_PF_FLAGS_ENABLE BIT(3)
#define MLX5_PF_FLAGS_PREFETCH BIT(4)

int mlx5_odp_fault(struct mlx5_ib_mr *mr, struct ib_umem_odp *odp, u64 user_va,
		   size_t bcnt, u32 *bytes_mapped, u32 flags);
void mlx5_odp_populate_mtt(__be64 *mtt, size_t first, size_t nr,
			   struct mlx5_ib_mr *mr);
void mlx5_odp_attach(struct ib_umem_odp *odp, struct mlx5_ib_mr *mr);
void mlx5_odp_detach(struct ib_umem_odp *odp);

/* odp.c */
void mlx5_odp_destroy_unused_child(struct mlx5_ib_mr *mr);

#endif /* _MLX5_IB_ODP_UMEM_H */
