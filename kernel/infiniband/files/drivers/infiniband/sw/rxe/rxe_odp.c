// SPDX-License-Identifier: GPL-2.0
/*
 * Copyright (c) 2026 The Twostep authors
 *
 * On-demand paging for soft-RoCE: registration and access. The model is in rxe_odp.h,
 * prefetch in rxe_odp_advise.c.
 */

#include <linux/highmem.h>
#include <linux/hmm-mirror.h>
#include <linux/libnvdimm.h>
#include <rdma/rdma_netlink.h>

#include "rxe.h"
#include "rxe_loc.h"

/**
 * rxe_odp_init_caps() - say what on-demand paging memory can be used for
 * @rxe: the device, before it is registered
 */
void rxe_odp_init_caps(struct rxe_dev *rxe)
{
	struct ib_odp_caps *caps = &rxe->attr.odp_caps;

	rxe->attr.kernel_cap_flags |= IBK_ON_DEMAND_PAGING;
	caps->general_caps = IB_ODP_SUPPORT | IB_ODP_SUPPORT_IMPLICIT;
	caps->per_transport_caps.ud_odp_caps = IB_ODP_SUPPORT_SEND |
					       IB_ODP_SUPPORT_RECV |
					       IB_ODP_SUPPORT_SRQ_RECV;
	caps->per_transport_caps.uc_odp_caps =
		caps->per_transport_caps.ud_odp_caps | IB_ODP_SUPPORT_WRITE;
	caps->per_transport_caps.rc_odp_caps =
		caps->per_transport_caps.uc_odp_caps | IB_ODP_SUPPORT_READ |
		IB_ODP_SUPPORT_ATOMIC | IB_ODP_SUPPORT_FLUSH |
		IB_ODP_SUPPORT_ATOMIC_WRITE;
}

/* As ibv_reg_mr(3) has it: address NULL and length SIZE_MAX. */
static bool is_implicit(const struct rxe_mr *mr)
{
	return !mr->umem->address && mr->umem->length == SIZE_MAX;
}

static struct ib_umem_odp *get_implicit(struct rxe_dev *rxe, u64 iova,
					int access)
{
	struct ib_umem_odp *odp;

	/* Pages of any size and kind: nobody can promise for all of them. */
	if (iova || access & (IB_ACCESS_HUGETLB | IB_ACCESS_FLUSH_PERSISTENT))
		return ERR_PTR(-EINVAL);
	odp = ib_umem_odp_get(&rxe->ib_dev, 0, current->mm->task_size, access,
			      NULL);
	if (!IS_ERR(odp))
		odp->umem.length = SIZE_MAX;
	return odp;
}

/**
 * rxe_odp_init_mr() - register an on-demand paging MR
 * @rxe: the device
 * @start: user address of the first byte
 * @length: bytes; U64_MAX with @start 0: the whole address space
 * @iova: what the first byte is called on the wire
 * @access: IB_ACCESS_*, with IB_ACCESS_ON_DEMAND
 * @mr: out: the MR
 *
 * Touches no page; neither time nor memory depend on @length.
 *
 * Return: 0, -EINVAL, -EOVERFLOW, -EOPNOTSUPP, -ENOMEM, -EINTR.
 */
int rxe_odp_init_mr(struct rxe_dev *rxe, u64 start, u64 length, u64 iova,
		    int access, struct rxe_mr *mr)
{
	struct ib_umem_odp *odp;

	if (!start && length == U64_MAX)
		odp = get_implicit(rxe, iova, access);
	else
		odp = ib_umem_odp_get(&rxe->ib_dev, start, length, access,
				      NULL);
	if (IS_ERR(odp))
		return PTR_ERR(odp);

	rxe_mr_init(access, mr);
	refcount_set(&mr->odp_users, 1);
	init_completion(&mr->odp_idle);
	mr->umem = &odp->umem;
	mr->ibmr.type = IB_MR_TYPE_USER;
	mr->ibmr.iova = iova;
	mr->ibmr.length = length;
	mr->state = RXE_MR_STATE_VALID;
	return 0;
}

/**
 * rxe_odp_rereg_mr() - give an on-demand paging MR another range
 * @ibmr: the MR
 * @flags: IB_MR_REREG_*, with IB_MR_REREG_TRANS
 * @start: as for rxe_odp_init_mr()
 * @length: as for rxe_odp_init_mr()
 * @iova: as for rxe_odp_init_mr()
 * @access: IB_ACCESS_*, if IB_MR_REREG_ACCESS
 * @ibpd: the protection domain that it is to have
 * @udata: the caller's
 *
 * The caller has seen that no window is bound to @ibmr.
 *
 * Return: another MR with keys of its own, for the caller to put in the place of @ibmr, which
 * it deregisters; or as registering.
 */
struct ib_mr *rxe_odp_rereg_mr(struct ib_mr *ibmr, int flags, u64 start,
			       u64 length, u64 iova, int access,
			       struct ib_pd *ibpd, struct ib_udata *udata)
{
	struct rxe_mr *mr = to_rmr(ibmr);
	struct ib_mr *other;

	if (!(flags & IB_MR_REREG_ACCESS))
		access = mr->access;
	other = rxe_reg_user_mr(ibpd, start, length, iova, access, udata);
	if (!IS_ERR(other)) {
		other->iova = iova;
		other->length = length;
	}
	return other;
}

/**
 * rxe_odp_get_user() - keep an MR for a fault or a prefetch
 * @mr: an on-demand paging MR that the caller has a reference to
 *
 * Return: false if it is being deregistered.
 */
bool rxe_odp_get_user(struct rxe_mr *mr)
{
	return refcount_inc_not_zero(&mr->odp_users);
}

/**
 * rxe_odp_put_user() - end what rxe_odp_get_user() began
 * @mr: the MR; it may be gone when this returns
 */
void rxe_odp_put_user(struct rxe_mr *mr)
{
	if (refcount_dec_and_test(&mr->odp_users))
		complete(&mr->odp_idle);
}

/**
 * rxe_odp_stop_mr() - end faults and prefetches before an MR is deregistered
 * @mr: an on-demand paging MR
 *
 * Nobody finds the MR any more when this returns, and nobody faults. A page that takes its
 * time (from a slow disk) is waited for.
 *
 * Return: 0; -EINVAL if a window was bound meanwhile: the MR stays.
 */
int rxe_odp_stop_mr(struct rxe_mr *mr)
{
	WRITE_ONCE(mr->state, RXE_MR_STATE_INVALID);
	rxe_odp_put_user(mr);
	wait_for_completion(&mr->odp_idle);
	/* Who binds is a user: no window comes from here on. */
	if (!atomic_read(&mr->num_mw))
		return 0;
	reinit_completion(&mr->odp_idle);
	refcount_set(&mr->odp_users, 1);
	WRITE_ONCE(mr->state, RXE_MR_STATE_VALID);
	return -EINVAL;
}

/**
 * rxe_odp_user_addr() - where the process has a byte of an MR
 * @mr: an on-demand paging MR
 * @iova: its address on the wire
 *
 * Return: the user address.
 */
unsigned long rxe_odp_user_addr(const struct rxe_mr *mr, u64 iova)
{
	return mr->umem->address + (iova - mr->ibmr.iova);
}

static void begin_fault(struct rxe_dev *rxe)
{
	atomic_inc(&rxe->odp_faulting);
}

/* Who sees that no fault is under way sees that this one has ended. */
static void end_fault(struct rxe_dev *rxe)
{
	atomic_inc(&rxe->odp_faulted);
	atomic_dec_return_release(&rxe->odp_faulting);
}

static bool faulted_since(struct rxe_dev *rxe, int before)
{
	return atomic_read_acquire(&rxe->odp_faulting) ||
	       atomic_read(&rxe->odp_faulted) != before;
}

/**
 * rxe_odp_wait() - wait for the last reference to an object
 * @rxe: its device
 * @idle: completed by who drops it
 * @timeout: jiffies after which somebody must have forgotten one
 *
 * Who waits for a page keeps what it works for, for as long as a disk takes: while the device
 * has faults nothing is forgotten.
 *
 * Return: 0 after the time-out, as wait_for_completion_timeout().
 */
unsigned long rxe_odp_wait(struct rxe_dev *rxe, struct completion *idle,
			   unsigned long timeout)
{
	unsigned long left;
	int before;

	for (;;) {
		before = atomic_read(&rxe->odp_faulted);
		left = wait_for_completion_timeout(idle, timeout);
		if (left || !faulted_since(rxe, before))
			return left;
		rxe_info_dev(rxe, "waits for a page that a fault brings in\n");
	}
}

static bool is_transient(int ret)
{
	return ret == -EBUSY || ret == -ENOMEM;
}

static int fault_range_and_lock(struct rxe_mr *mr, unsigned long start,
				unsigned long end, u64 right)
{
	struct hmm_mirror_fault fault = {
		.start = start,
		.end = end,
		.access = PFN_TAG_READ | right,
		.mode = HMM_MIRROR_FAULT,
	};

	return ib_umem_odp_fault_and_lock(to_ib_umem_odp(mr->umem), &fault);
}

/*
 * Bring in what an access needs, and what its message goes on with, up to the end of the
 * block: a fault costs a walk, whatever it brings. Returns with the umem locked shared and
 * [@addr, @addr + @length) present, or -EAGAIN, or -EFAULT.
 */
static int fault_and_lock(struct rxe_mr *mr, unsigned long addr,
			  unsigned int length, u64 ahead, u64 right)
{
	struct ib_umem_odp *odp = to_ib_umem_odp(mr->umem);
	struct rxe_dev *rxe = to_rdev(mr->ibmr.device);
	unsigned long end = addr + length, far;
	int ret = -EFAULT;

	if (!rxe_odp_get_user(mr))
		return -EFAULT;
	begin_fault(rxe);
	far = ALIGN_DOWN(addr, PFN_TABLE_BLOCK_SIZE) + PFN_TABLE_BLOCK_SIZE;
	far = min3(addr + ahead, far, ib_umem_end(odp));
	if (far > end)
		ret = fault_range_and_lock(mr, addr, far, right);
	/*
	 * A buffer may end in a hole that the message does not reach, and an invalidation
	 * anywhere throws away the walk of many pages sooner than that of few.
	 */
	if (ret)
		ret = fault_range_and_lock(mr, addr, end, right);
	end_fault(rxe);
	rxe_odp_put_user(mr);
	if (!ret)
		return 0;
	if (!is_transient(ret))
		return -EFAULT;
	/* Let those run who take pages, or free them. */
	usleep_range(1000, 2000);
	return -EAGAIN;
}

/* Copy bytes of the page that @word is of. */
static __always_inline void copy_bytes(struct ib_umem_odp *odp, u64 word,
				       unsigned long addr, void *data,
				       unsigned int bytes, u64 right)
{
	void *page = kmap_local_pfn(word & PFN_TAG_PFN);

	/* Of a size that it knows to be small gcc copies inline, and slower. */
	OPTIMIZER_HIDE_VAR(bytes);
	if (right == PFN_TAG_READ) {
		memcpy(data, page + offset_in_page(addr), bytes);
	} else {
		memcpy(page + offset_in_page(addr), data, bytes);
		if (unlikely(!(word & PFN_TAG_DIRTY)))
			hmm_mirror_written(&odp->mirror, addr, bytes);
	}
	kunmap_local(page);
}

/* Copy what is present with @right, up to the first page that is not. Returns bytes. */
static unsigned int copy_present(struct ib_umem_odp *odp, unsigned long addr,
				 void *data, unsigned int length, u64 right)
{
	unsigned int done = 0, bytes;
	u64 word;

	for (; done < length; done += bytes, addr += bytes, data += bytes) {
		word = hmm_mirror_word(&odp->mirror, addr);
		if (!(word & right))
			break;
		bytes = min_t(unsigned int, length - done,
			      PAGE_SIZE - offset_in_page(addr));
		copy_bytes(odp, word, addr, data, bytes, right);
	}
	return done;
}

/* A copy of several pages, or of what is not present: that is brought in. */
static noinline int copy_pages(struct rxe_mr *mr, unsigned long addr,
			       void *data, unsigned int length, u64 ahead,
			       u64 right)
{
	struct ib_umem_odp *odp = to_ib_umem_odp(mr->umem);
	unsigned int done = 0;
	int ret;

	ib_umem_odp_lock_shared(odp);
	for (;;) {
		done += copy_present(odp, addr + done, data + done,
				     length - done, right);
		ib_umem_odp_unlock_shared(odp);
		if (done == length)
			return 0;
		ret = fault_and_lock(mr, addr + done, length - done,
				     ahead - done, right);
		if (ret)
			return ret;
	}
}

/**
 * rxe_odp_copy() - copy between a packet and an on-demand paging MR
 * @mr: the MR
 * @iova: first byte in it; the caller has checked the range
 * @data: the packet's bytes
 * @length: how many
 * @ahead: bytes from @iova on that the message will probably need, at least @length
 * @dir: which way
 *
 * Context: sleeps.
 * Return: 0; -EAGAIN if it is to be tried again, all of it; -EFAULT if the process has no
 * memory there with that right.
 */
int rxe_odp_copy(struct rxe_mr *mr, u64 iova, void *data, unsigned int length,
		 u64 ahead, enum rxe_mr_copy_dir dir)
{
	u64 right = dir == RXE_TO_MR_OBJ ? PFN_TAG_WRITE : PFN_TAG_READ;
	struct ib_umem_odp *odp = to_ib_umem_odp(mr->umem);
	unsigned long addr = rxe_odp_user_addr(mr, iova);
	u64 word;

	/* Nearly always a packet is a part of one page, which is present: no loops, no calls. */
	if (likely(length <= PAGE_SIZE - offset_in_page(addr))) {
		ib_umem_odp_lock_shared(odp);
		word = hmm_mirror_word(&odp->mirror, addr);
		if (likely(word & right)) {
			copy_bytes(odp, word, addr, data, length, right);
			ib_umem_odp_unlock_shared(odp);
			return 0;
		}
		ib_umem_odp_unlock_shared(odp);
	}
	return copy_pages(mr, addr, data, length, ahead, right);
}

/*
 * Map the 8 bytes at @iova, for writing, and lock the umem shared until unlock_word().
 * Returns a responder state, RESPST_NONE if they are mapped.
 */
static int lock_word(struct rxe_mr *mr, u64 iova, u64 **word)
{
	struct ib_umem_odp *odp = to_ib_umem_odp(mr->umem);
	unsigned long addr = rxe_odp_user_addr(mr, iova);
	u64 tag;
	int ret;

	if (!IS_ALIGNED(addr, sizeof(u64)))
		return RESPST_ERR_MISALIGNED_ATOMIC;

	ib_umem_odp_lock_shared(odp);
	tag = hmm_mirror_word(&odp->mirror, addr);
	if (!(tag & PFN_TAG_WRITE)) {
		ib_umem_odp_unlock_shared(odp);
		ret = fault_and_lock(mr, addr, sizeof(u64), sizeof(u64),
				     PFN_TAG_WRITE);
		if (ret)
			return ret == -EAGAIN ? RESPST_AGAIN :
						RESPST_ERR_RKEY_VIOLATION;
		tag = hmm_mirror_word(&odp->mirror, addr);
	}
	*word = kmap_local_pfn(tag & PFN_TAG_PFN) + offset_in_page(addr);
	return RESPST_NONE;
}

static void unlock_word(struct rxe_mr *mr, u64 iova, u64 *word)
{
	struct ib_umem_odp *odp = to_ib_umem_odp(mr->umem);

	kunmap_local(word);
	hmm_mirror_written(&odp->mirror, rxe_odp_user_addr(mr, iova),
			   sizeof(u64));
	ib_umem_odp_unlock_shared(odp);
}

/**
 * rxe_odp_atomic_op() - compare and swap, or fetch and add
 * @mr: the MR
 * @iova: the 8 bytes in it; the caller has checked the range
 * @opcode: IB_OPCODE_RC_COMPARE_SWAP or IB_OPCODE_RC_FETCH_ADD
 * @compare: what is expected there
 * @swap_add: what to store or add
 * @orig_val: out: what was there
 *
 * Context: sleeps.
 * Return: RESPST_NONE, or the state that the responder goes to; RESPST_AGAIN: nothing was
 * done, and it is to be tried again.
 */
int rxe_odp_atomic_op(struct rxe_mr *mr, u64 iova, int opcode, u64 compare,
		      u64 swap_add, u64 *orig_val)
{
	u64 *word;
	int ret = lock_word(mr, iova, &word);

	if (ret != RESPST_NONE)
		return ret;
	rxe_do_atomic(word, opcode, compare, swap_add, orig_val);
	unlock_word(mr, iova, word);
	return RESPST_NONE;
}

/**
 * rxe_odp_atomic_write() - write 8 bytes at once, after all that came before
 * @mr: the MR
 * @iova: the 8 bytes in it; the caller has checked the range
 * @value: what to write
 *
 * IBTA A19.4.2. Context: sleeps.
 * Return: as rxe_odp_atomic_op().
 */
int rxe_odp_atomic_write(struct rxe_mr *mr, u64 iova, u64 value)
{
	u64 *word;
	int ret = lock_word(mr, iova, &word);

	if (ret != RESPST_NONE)
		return ret;
	/* All that was received before is visible before this. */
	smp_store_release(word, value);
	unlock_word(mr, iova, word);
	return RESPST_NONE;
}

/* Write back the caches over what is present, up to a hole. Returns bytes, or -EFAULT. */
static long flush_present(struct ib_umem_odp *odp, unsigned long addr,
			  unsigned long end)
{
	unsigned long start = addr, behind;
	void *page;
	u64 word;

	for (; addr < end; addr = behind) {
		word = hmm_mirror_word(&odp->mirror, addr);
		if (!word)
			break;
		if (!rxe_is_pmem_page(pfn_to_page(word & PFN_TAG_PFN)))
			return -EFAULT;
		behind = min(end, (addr & PAGE_MASK) + PAGE_SIZE);
		page = kmap_local_pfn(word & PFN_TAG_PFN);
		arch_wb_cache_pmem(page + offset_in_page(addr), behind - addr);
		kunmap_local(page);
	}
	return addr - start;
}

/**
 * rxe_odp_flush_pmem() - make persistent what was written to an MR
 * @mr: the MR
 * @iova: first byte; the caller has checked the range
 * @length: bytes
 *
 * Pages that went since they were written come back for it: nobody but their owner knows
 * whether they are persistent.
 *
 * Context: sleeps.
 * Return: 0; -EAGAIN if it is to be tried again; -EFAULT if the memory is not persistent, or
 * is not there.
 */
int rxe_odp_flush_pmem(struct rxe_mr *mr, u64 iova, u64 length)
{
	struct ib_umem_odp *odp = to_ib_umem_odp(mr->umem);
	unsigned long addr = rxe_odp_user_addr(mr, iova), end = addr + length;
	unsigned long border, bytes;
	long done;
	int ret;

	ib_umem_odp_lock_shared(odp);
	for (;;) {
		/* A block at a time: invalidations wait. */
		border = ALIGN_DOWN(addr, PFN_TABLE_BLOCK_SIZE) +
			 PFN_TABLE_BLOCK_SIZE;
		border = min(border, end);
		done = flush_present(odp, addr, border);
		ib_umem_odp_unlock_shared(odp);
		if (done < 0)
			return done;
		addr += done;
		if (addr == end)
			return 0;
		cond_resched();
		if (addr == border) {
			ib_umem_odp_lock_shared(odp);
			continue;
		}
		bytes = min(end - addr, PAGE_SIZE - offset_in_page(addr));
		ret = fault_and_lock(mr, addr, bytes, end - addr, PFN_TAG_READ);
		if (ret)
			return ret;
	}
}

/**
 * rxe_odp_read_counters() - the device's counters of on-demand paging
 * @rxe: the device
 * @values: out: by enum rxe_counters; only those of on-demand paging are set
 *
 * Context: sleeps.
 */
void rxe_odp_read_counters(struct rxe_dev *rxe, u64 *values)
{
	u64 stats[IB_UMEM_ODP_NR_STATS];

	ib_umem_odp_read_device_stats(&rxe->ib_dev, stats);
	values[RXE_CNT_ODP_PAGE_FAULTS] = stats[IB_UMEM_ODP_PAGE_FAULTS];
	values[RXE_CNT_ODP_PAGE_INVALIDATIONS] =
		stats[IB_UMEM_ODP_PAGE_INVALIDATIONS];
	values[RXE_CNT_ODP_PAGE_PREFETCH] = stats[IB_UMEM_ODP_PAGE_PREFETCH];
	values[RXE_CNT_ODP_FAULTS] = stats[IB_UMEM_ODP_FAULTS];
	values[RXE_CNT_ODP_RETRIES] = stats[IB_UMEM_ODP_RETRIES];
}

/**
 * rxe_odp_fill_res_mr() - what "rdma resource show mr" says of an MR
 * @msg: the message
 * @ibmr: any MR
 *
 * Return: 0, -EMSGSIZE.
 */
int rxe_odp_fill_res_mr(struct sk_buff *msg, struct ib_mr *ibmr)
{
	struct rxe_mr *mr = to_rmr(ibmr);
	struct nlattr *table;

	if (!rxe_umem_is_odp(mr->umem))
		return 0;
	table = nla_nest_start(msg, RDMA_NLDEV_ATTR_DRIVER);
	if (!table)
		return -EMSGSIZE;
	if (rdma_nl_put_driver_string(
		    msg, "odp", is_implicit(mr) ? "implicit" : "explicit")) {
		nla_nest_cancel(msg, table);
		return -EMSGSIZE;
	}
	nla_nest_end(msg, table);
	return 0;
}

/**
 * rxe_odp_fill_stat_mr() - what "rdma statistic show mr" says of an MR
 * @msg: the message
 * @ibmr: any MR
 *
 * Context: sleeps.
 * Return: 0, -EMSGSIZE.
 */
int rxe_odp_fill_stat_mr(struct sk_buff *msg, struct ib_mr *ibmr)
{
	struct rxe_mr *mr = to_rmr(ibmr);

	if (!rxe_umem_is_odp(mr->umem))
		return 0;
	return ib_umem_odp_fill_stats(msg, to_ib_umem_odp(mr->umem));
}
