// SPDX-License-Identifier: GPL-2.0
/*
 * Copyright (c) 2026 The Twostep authors
 *
 * Prefetch for soft-RoCE: ibv_advise_mr(3).
 *
 * A request names parts of several MRs. It is checked as a whole before any page moves. With
 * the flag FLUSH it is done by the caller, without by the workqueue, piece by piece: between
 * two pieces it sees that an MR is to go, and ends.
 */

#include <linux/hmm-mirror.h>

#include "rxe.h"
#include "rxe_loc.h"

/* Longest time to an MR's end: that of so many bytes. */
#define PIECE SZ_64M

/* How many requests may wait for pages at once; the data paths have a queue of their own. */
#define AT_ONCE 8

static struct workqueue_struct *prefetch_wq;

/**
 * rxe_odp_init() - when the module comes
 *
 * Return: 0, -ENOMEM.
 */
int rxe_odp_init(void)
{
	prefetch_wq = alloc_workqueue("rxe_prefetch", WQ_UNBOUND, AT_ONCE);
	return prefetch_wq ? 0 : -ENOMEM;
}

/**
 * rxe_odp_exit() - when the module goes
 */
void rxe_odp_exit(void)
{
	destroy_workqueue(prefetch_wq);
}

/**
 * struct part - a part of an MR
 * @mr: the MR; its &rxe_mr.odp_users counts us
 * @start: user address of the first byte
 * @end: behind the last one
 */
struct part {
	struct rxe_mr *mr;
	unsigned long start;
	unsigned long end;
};

/**
 * struct prefetch - a request
 * @work: for the workqueue
 * @advice: what to bring in
 * @nr: how many parts
 * @parts: the parts
 */
struct prefetch {
	struct work_struct work;
	enum ib_uverbs_advise_mr_advice advice;
	unsigned int nr;
	struct part parts[];
};

/* Returns -EFAULT if pages are missing, but for NO_FAULT. */
static int prefetch_piece(struct ib_umem_odp *odp,
			  enum ib_uverbs_advise_mr_advice advice,
			  unsigned long start, unsigned long end)
{
	struct hmm_mirror_fault fault = {
		.start = start,
		.end = end,
		.access = PFN_TAG_READ,
		.mode = HMM_MIRROR_PREFETCH,
	};
	int ret;

	if (advice == IB_UVERBS_ADVISE_MR_ADVICE_PREFETCH_WRITE)
		fault.access |= PFN_TAG_WRITE;
	if (advice == IB_UVERBS_ADVISE_MR_ADVICE_PREFETCH_NO_FAULT)
		fault.mode = HMM_MIRROR_SNAPSHOT;
	ret = ib_umem_odp_fault_and_lock(odp, &fault);
	if (ret)
		return ret;
	ib_umem_odp_unlock_shared(odp);
	if (fault.mode == HMM_MIRROR_PREFETCH &&
	    (fault.present < (fault.end - fault.start) >> PAGE_SHIFT ||
	     fault.access & ~fault.granted))
		return -EFAULT;
	return 0;
}

/* Bring in what can be had of a part. Returns the first thing that went wrong. */
static int prefetch_part(const struct part *part,
			 enum ib_uverbs_advise_mr_advice advice)
{
	struct ib_umem_odp *odp = to_ib_umem_odp(part->mr->umem);
	unsigned long start, end;
	int ret, first = 0;

	for (start = part->start; start < part->end; start = end) {
		if (READ_ONCE(part->mr->state) != RXE_MR_STATE_VALID)
			return -EFAULT;
		end = min(ALIGN_DOWN(start, PIECE) + PIECE, part->end);
		/* Pages on the move: the deadline is past, once more is enough. */
		ret = prefetch_piece(odp, advice, start, end);
		if (ret == -EBUSY)
			ret = prefetch_piece(odp, advice, start, end);
		if (ret == -ENOMEM || ret == -EINTR || ret == -ESRCH)
			return ret;
		first = first ?: ret;
		cond_resched();
	}
	return first;
}

static int prefetch_all(const struct prefetch *prefetch)
{
	int ret, first = 0;
	unsigned int i;

	for (i = 0; i < prefetch->nr; i++) {
		ret = prefetch_part(&prefetch->parts[i], prefetch->advice);
		first = first ?: ret;
	}
	return first;
}

static void prefetch_free(struct prefetch *prefetch)
{
	while (prefetch->nr) {
		struct rxe_mr *mr = prefetch->parts[prefetch->nr - 1].mr;

		prefetch->nr--;
		rxe_odp_put_user(mr);
	}
	kvfree(prefetch);
}

static void prefetch_work(struct work_struct *work)
{
	struct prefetch *prefetch = container_of(work, struct prefetch, work);

	prefetch_all(prefetch);
	prefetch_free(prefetch);
}

/* Find an MR and keep it. Returns -ENOENT, -EPERM, -EINVAL as ibv_advise_mr(3) has them. */
static int get_mr(struct rxe_pd *pd, enum ib_uverbs_advise_mr_advice advice,
		  u32 lkey, struct rxe_mr **found)
{
	struct rxe_dev *rxe = to_rdev(pd->ibpd.device);
	struct rxe_mr *mr = rxe_pool_get_index(&rxe->mr_pool, lkey >> 8);
	int ret = 0;

	if (!mr)
		return rkey_is_mw(lkey) ? -EINVAL : -ENOENT;
	if (mr->lkey != lkey || mr->state != RXE_MR_STATE_VALID)
		ret = -ENOENT;
	else if (mr_pd(mr) != pd)
		ret = -EPERM;
	else if (!rxe_umem_is_odp(mr->umem))
		ret = -EINVAL;
	else if (advice == IB_UVERBS_ADVISE_MR_ADVICE_PREFETCH_WRITE &&
		 !mr->umem->writable)
		ret = -EPERM;
	else if (!rxe_odp_get_user(mr))
		ret = -ENOENT;
	rxe_put(mr);
	*found = mr;
	return ret;
}

static int add_part(struct rxe_pd *pd, struct prefetch *prefetch,
		    const struct ib_sge *sge)
{
	struct part *part;
	struct rxe_mr *mr;
	int ret;

	ret = get_mr(pd, prefetch->advice, sge->lkey, &mr);
	if (ret)
		return ret;
	part = &prefetch->parts[prefetch->nr++];
	part->mr = mr;
	if (mr_check_range(mr, sge->addr, sge->length))
		return -EFAULT;
	part->start = rxe_odp_user_addr(mr, sge->addr);
	part->end = part->start + sge->length;
	if (part->end > ib_umem_end(to_ib_umem_odp(mr->umem)))
		return -EFAULT;
	return 0;
}

/**
 * rxe_odp_advise_mr() - prefetch parts of on-demand paging MRs
 * @ibpd: the MRs' protection domain
 * @advice: PREFETCH: for reading. PREFETCH_WRITE: for writing too. PREFETCH_NO_FAULT: only
 *	what the process has at hand
 * @flags: IB_UVERBS_ADVISE_MR_FLAG_FLUSH: return when it is done
 * @sges: the parts, by lkey and I/O virtual address
 * @num_sge: how many
 * @attrs: not used
 *
 * Return: 0; -EOPNOTSUPP for another advice; -ENOENT for a key that no MR has, -EPERM for
 * one of another PD or PREFETCH_WRITE of a read-only MR, -EINVAL for an MR that is pinned or
 * a memory window, -EFAULT for a range out of its MR: nothing was done then. With FLUSH also
 * -EFAULT if not all of the pages could be had, -EBUSY, -ENOMEM, -EINTR, -ESRCH.
 */
int rxe_odp_advise_mr(struct ib_pd *ibpd,
		      enum ib_uverbs_advise_mr_advice advice, u32 flags,
		      struct ib_sge *sges, u32 num_sge,
		      struct uverbs_attr_bundle *attrs)
{
	struct prefetch *prefetch;
	int ret = 0;
	u32 i;

	if (advice > IB_UVERBS_ADVISE_MR_ADVICE_PREFETCH_NO_FAULT)
		return -EOPNOTSUPP;
	prefetch = kvzalloc(struct_size(prefetch, parts, num_sge),
			    GFP_KERNEL_ACCOUNT);
	if (!prefetch)
		return -ENOMEM;
	prefetch->advice = advice;
	for (i = 0; i < num_sge && !ret; i++)
		ret = add_part(to_rpd(ibpd), prefetch, &sges[i]);
	if (ret || flags & IB_UVERBS_ADVISE_MR_FLAG_FLUSH) {
		ret = ret ?: prefetch_all(prefetch);
		prefetch_free(prefetch);
		return ret;
	}
	INIT_WORK(&prefetch->work, prefetch_work);
	queue_work(prefetch_wq, &prefetch->work);
	return 0;
}
