// SPDX-License-Identifier: GPL-2.0
/*
 * Copyright (c) 2026 The Twostep authors
 *
 * On-demand paging MRs on the run-based umem (rdma/ib_umem_odp.h).
 *
 * The translation table of an MR lives in the device and is written by UMR work requests,
 * each a round trip. A fault brings pages in and, with the umem locked shared, writes the
 * entries of the whole range from the runs that are present, zeros for holes. An
 * invalidation, with the lock held exclusively, writes zeros over the entries of all runs
 * before the core unlinks them with one flush.
 *
 * States of an MR, by its umem's zap:
 *
 *	NULL	the mkey is not enabled: nothing to zap, and no fault may write its table. A
 *		new MR, one that is being destroyed, or one that could not be zapped
 *	set	the mkey is enabled
 *
 * An MR's first update writes every entry, for a mkey may come from a cache with the
 * addresses of its former MR in it, and enables the mkey with the last of them, all in one
 * hold of the lock: an invalidation comes before it or after it.
 *
 * If zapping fails, the mkey is revoked: the device must not keep an address of a page that
 * goes. That takes no memory and no mapping, which are what zapping can fail for.
 */

#include <rdma/ib_umem_odp.h>

#include "mlx5_ib.h"
#include "odp_umem.h"
#include "odp_xlt.h"
#include "umr.h"

/**
 * mlx5_odp_populate_mtt() - fill entries of an MR's table from what is present
 * @mtt: out: the entries, zero before
 * @first: number of the first
 * @nr: how many
 * @mr: the MR, its umem locked
 */
void mlx5_odp_populate_mtt(__be64 *mtt, size_t first, size_t nr,
			   struct mlx5_ib_mr *mr)
{
	struct mlx5_odp_span span = { .first = first, .nr = nr };
	struct ib_umem_odp *odp = to_ib_umem_odp(mr->umem);
	unsigned int shift = odp->page_shift;
	u64 base = ib_umem_start(odp);
	struct ib_umem_odp_iter iter;
	struct ib_umem_odp_run run;

	ib_umem_odp_runs(&iter, odp, base + ((u64)first << shift),
			 base + ((u64)(first + nr) << shift));
	while (ib_umem_odp_next_run(&iter, &run))
		mlx5_odp_fill(mtt, &span, base, shift, &run);
}

/*
 * The device must lose the MR altogether. If it does not even do that, it still has entries:
 * each later invalidation tries again.
 */
static void take_away(struct ib_umem_odp *odp, struct mlx5_ib_mr *mr, int error)
{
	struct mlx5_ib_dev *dev = mr_to_mdev(mr);
	int ret = mlx5r_umr_revoke_mr(mr);

	if (dev->mdev->state == MLX5_DEVICE_STATE_INTERNAL_ERROR) {
		odp->zap = NULL;
		return;
	}
	if (ret) {
		ibdev_err_ratelimited(
			&dev->ib_dev,
			"mkey 0x%x: zap failed (%d), revoke too (%d)\n",
			mr->mmkey.key, error, ret);
		return;
	}
	odp->zap = NULL;
	mlx5_ib_warn(dev, "mkey 0x%x: zap failed (%d), revoked\n",
		     mr->mmkey.key, error);
}

static int zap_span(struct mlx5_ib_mr *mr, const struct mlx5_odp_span *span)
{
	if (!span->nr)
		return 0;
	return mlx5r_umr_update_xlt(mr, span->first, span->nr, 0,
				    MLX5_IB_UPD_XLT_ZAP |
					    MLX5_IB_UPD_XLT_ATOMIC);
}

static void zap(struct ib_umem_odp *odp, struct ib_umem_odp_iter *runs)
{
	struct mlx5_odp_span next, span = {};
	struct mlx5_ib_mr *mr = odp->private;
	struct ib_umem_odp_run run;
	int err = 0;

	while (!err && ib_umem_odp_next_run(runs, &run)) {
		next = mlx5_odp_span_of(ib_umem_start(odp), run.addr,
					run.addr + run.len, odp->page_shift);
		if (mlx5_odp_span_join(&span, &next))
			continue;
		err = zap_span(mr, &span);
		span = next;
	}
	err = err ?: zap_span(mr, &span);
	if (err)
		take_away(odp, mr, err);
}

/**
 * mlx5_odp_attach() - from now on the device has entries: zap them
 * @odp: the umem; locked, or without a page so far
 * @mr: its MR, the mkey enabled
 */
void mlx5_odp_attach(struct ib_umem_odp *odp, struct mlx5_ib_mr *mr)
{
	odp->private = mr;
	WRITE_ONCE(odp->zap, zap);
}

/**
 * mlx5_odp_detach() - the device has no entries any more
 * @odp: the umem, locked exclusively
 */
void mlx5_odp_detach(struct ib_umem_odp *odp)
{
	ib_umem_odp_assert_locked(odp);
	odp->private = NULL;
	WRITE_ONCE(odp->zap, NULL);
}

static bool mlx5_ib_invalidate_range(struct mmu_interval_notifier *mni,
				     const struct mmu_notifier_range *range,
				     unsigned long cur_seq)
{
	struct ib_umem_odp *odp =
		container_of(mni, struct ib_umem_odp, mirror.notifier);
	bool was_empty = ib_umem_odp_empty(odp);
	struct mlx5_ib_mr *mr;

	if (!ib_umem_odp_invalidate(mni, range, cur_seq))
		return false;
	/* The MR is not freed before its umem, and that waits for us. */
	mr = READ_ONCE(odp->private);
	if (!was_empty && ib_umem_odp_empty(odp) && mr && mr->parent)
		mlx5_odp_destroy_unused_child(mr);
	return true;
}

const struct mmu_interval_notifier_ops mlx5_mn_ops = {
	.invalidate = mlx5_ib_invalidate_range,
};

static enum hmm_mirror_mode mode_of(u32 flags)
{
	if (flags & MLX5_PF_FLAGS_SNAPSHOT)
		return HMM_MIRROR_SNAPSHOT;
	if (flags & MLX5_PF_FLAGS_PREFETCH)
		return HMM_MIRROR_PREFETCH;
	return HMM_MIRROR_FAULT;
}

/* Write the entries of a range, and enable the mkey with the last if asked to. */
static int update_range(struct mlx5_ib_mr *mr, struct ib_umem_odp *odp,
			const struct hmm_mirror_fault *fault, u32 flags)
{
	unsigned int shift = odp->page_shift;
	struct mlx5_odp_span span = mlx5_odp_span_of(
		ib_umem_start(odp), fault->start, fault->end, shift);
	int xlt_flags = MLX5_IB_UPD_XLT_ATOMIC;
	int err;

	if (flags & MLX5_PF_FLAGS_ENABLE)
		xlt_flags |= MLX5_IB_UPD_XLT_ENABLE;
	else if (!READ_ONCE(odp->zap))
		return -EAGAIN;
	err = mlx5r_umr_update_xlt(mr, span.first, span.nr, shift, xlt_flags);
	if (!err && flags & MLX5_PF_FLAGS_ENABLE)
		mlx5_odp_attach(odp, mr);
	if (err && err != -EAGAIN)
		mlx5_ib_err(mr_to_mdev(mr),
			    "Failed to update mkey page tables\n");
	return err;
}

/**
 * mlx5_odp_fault() - bring pages in and tell the device
 * @mr: the MR; not an implicit one
 * @odp: its umem
 * @user_va: user address of the first byte
 * @bcnt: bytes
 * @bytes_mapped: goes up by the bytes that are mapped, or NULL
 * @flags: MLX5_PF_FLAGS_*
 *
 * Return: how many pages of PAGE_SIZE in the entries of the range are present; -EFAULT if
 * some cannot be had, -EAGAIN if the device should try again, or another error.
 */
int mlx5_odp_fault(struct mlx5_ib_mr *mr, struct ib_umem_odp *odp, u64 user_va,
		   size_t bcnt, u32 *bytes_mapped, u32 flags)
{
	struct hmm_mirror_fault fault = {
		.start = user_va,
		.end = user_va + bcnt,
		.access = PFN_TAG_READ,
		.mode = mode_of(flags),
	};
	unsigned long pages;
	int err;

	if (odp->umem.writable && !(flags & MLX5_PF_FLAGS_DOWNGRADE))
		fault.access |= PFN_TAG_WRITE;
	err = ib_umem_odp_fault_and_lock(odp, &fault);
	/* Invalidations without end are no reason to break a connection. */
	if (err)
		return err == -EBUSY ? -EAGAIN : err;
	err = update_range(mr, odp, &fault, flags);
	ib_umem_odp_unlock_shared(odp);
	if (err)
		return err;

	pages = (fault.end - fault.start) >> PAGE_SHIFT;
	if (fault.mode == HMM_MIRROR_PREFETCH &&
	    (fault.present < pages || fault.access & ~fault.granted))
		return -EFAULT;
	if (bytes_mapped && fault.mode != HMM_MIRROR_SNAPSHOT)
		*bytes_mapped += bcnt;
	return min_t(unsigned long, fault.present, INT_MAX);
}

/**
 * mlx5_ib_init_odp_mr() - write a new MR's whole table and enable its mkey
 * @mr: the MR
 *
 * What the process has at hand is mapped at once.
 *
 * Return: 0 or an error.
 */
int mlx5_ib_init_odp_mr(struct mlx5_ib_mr *mr)
{
	int ret;

	ret = mlx5_odp_fault(mr, to_ib_umem_odp(mr->umem), mr->umem->address,
			     mr->umem->length, NULL,
			     MLX5_PF_FLAGS_SNAPSHOT | MLX5_PF_FLAGS_ENABLE);
	return min(ret, 0);
}
