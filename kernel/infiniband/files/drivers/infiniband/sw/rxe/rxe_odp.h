/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Copyright (c) 2026 The Twostep authors
 *
 * On-demand paging for soft-RoCE.
 *
 * rxe is software: its accesses to memory are copies in a workqueue. An on-demand paging
 * memory region (MR) looks each page up in its umem (rdma/ib_umem_odp.h, way VIRT) and copies
 * under the umem's lock, held shared. What is not present is faulted in without the lock.
 *
 * Invariants
 *  - A byte is copied from or to a page only while the umem says that the process has that
 *    page there, with the right that the copy needs: an invalidation waits for the copies in
 *    flight, and no copy begins on what it took.
 *  - Between looking a page up and the end of its copy nothing sleeps and nothing is allocated.
 *  - A page that was written is booked before the lock is dropped.
 *  - What fails for now only (-EAGAIN) is done again, with the packet or request as if it had
 *    never been tried; bytes that were copied already are copied once more. The peer sees a
 *    delay, and may retry. What fails for good has the status of an access that is not
 *    allowed.
 *
 * An implicit MR is one umem of the whole address space: a umem costs the same for any length,
 * so there are no children to make and to take down.
 *
 * Locking: the umem's lock, shared, for every access. &rxe_mr.odp_users counts who may fault,
 * and one for the MR while it is registered; deregistration waits in &rxe_mr.odp_idle for
 * them, however long the pages take. So does the end of a queue pair or address handle: see
 * rxe_odp_wait().
 */
#ifndef RXE_ODP_H
#define RXE_ODP_H

#include <rdma/ib_umem_odp.h>

#include "rxe_verbs.h"

struct uverbs_attr_bundle;

#ifdef CONFIG_INFINIBAND_ON_DEMAND_PAGING

static inline bool rxe_umem_is_odp(const struct ib_umem *umem)
{
	return umem && umem->is_odp;
}

int rxe_odp_init(void);
void rxe_odp_exit(void);
unsigned long rxe_odp_wait(struct rxe_dev *rxe, struct completion *idle,
			   unsigned long timeout);

#else /* CONFIG_INFINIBAND_ON_DEMAND_PAGING */

static inline int rxe_odp_init(void)
{
	return 0;
}

static inline void rxe_odp_exit(void)
{
}

static inline unsigned long rxe_odp_wait(struct rxe_dev *rxe,
					 struct completion *idle,
					 unsigned long timeout)
{
	return wait_for_completion_timeout(idle, timeout);
}

static inline bool rxe_umem_is_odp(const struct ib_umem *umem)
{
	return false;
}

#endif /* CONFIG_INFINIBAND_ON_DEMAND_PAGING */

/* The access flags that may be asked for: of @supported, and with ON_DEMAND huge entries. */
static inline int rxe_odp_access(int access, int supported)
{
	return access & IB_ACCESS_ON_DEMAND ? supported | IB_ACCESS_HUGETLB :
					      supported;
}

/* Whether access flags leave an MR on demand, or pinned, while it stays where it is. */
static inline bool rxe_odp_may_rereg(const struct rxe_mr *mr, int flags,
				     int access)
{
	return flags & IB_MR_REREG_TRANS || !(flags & IB_MR_REREG_ACCESS) ||
	       !((access ^ mr->access) &
		 (IB_ACCESS_ON_DEMAND | IB_ACCESS_HUGETLB));
}

void rxe_odp_init_caps(struct rxe_dev *rxe);
int rxe_odp_init_mr(struct rxe_dev *rxe, u64 start, u64 length, u64 iova,
		    int access, struct rxe_mr *mr);
struct ib_mr *rxe_odp_rereg_mr(struct ib_mr *ibmr, int flags, u64 start,
			       u64 length, u64 iova, int access,
			       struct ib_pd *ibpd, struct ib_udata *udata);
int rxe_odp_stop_mr(struct rxe_mr *mr);
bool rxe_odp_get_user(struct rxe_mr *mr);
void rxe_odp_put_user(struct rxe_mr *mr);

unsigned long rxe_odp_user_addr(const struct rxe_mr *mr, u64 iova);

int rxe_odp_copy(struct rxe_mr *mr, u64 iova, void *data, unsigned int length,
		 u64 ahead, enum rxe_mr_copy_dir dir);
int rxe_odp_atomic_op(struct rxe_mr *mr, u64 iova, int opcode, u64 compare,
		      u64 swap_add, u64 *orig_val);
int rxe_odp_atomic_write(struct rxe_mr *mr, u64 iova, u64 value);
int rxe_odp_flush_pmem(struct rxe_mr *mr, u64 iova, u64 length);

int rxe_odp_advise_mr(struct ib_pd *ibpd,
		      enum ib_uverbs_advise_mr_advice advice, u32 flags,
		      struct ib_sge *sges, u32 num_sge,
		      struct uverbs_attr_bundle *attrs);
void rxe_odp_read_counters(struct rxe_dev *rxe, u64 *values);
int rxe_odp_fill_res_mr(struct sk_buff *msg, struct ib_mr *ibmr);
int rxe_odp_fill_stat_mr(struct sk_buff *msg, struct ib_mr *ibmr);

#endif /* RXE_ODP_H */
