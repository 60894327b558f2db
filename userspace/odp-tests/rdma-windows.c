// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
// Copyright (c) 2026 The Twostep authors
/*
 * rdma-windows: a memory window gives a peer the bytes it was bound to, in the ways it was
 * bound for, as long as it is bound; and nothing else. IBTA volume 1, 10.6.7.2.
 *
 * A test is a behaviour, a type of window (1: anybody of the protection domain may use it,
 * bound by ibv_bind_mw(); 2: only the queue pair that bound it, by a work request) and a kind
 * of memory below it. The far side of a pair owns the memory and binds; the near side reaches
 * it. A refusal ends a pair, so each has one of its own, and the stage's pair shows afterwards
 * that others go on.
 *
 * A window of type 2 refers to its queue pair: it goes before that does.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "fabric.h"
#include "region.h"
#include "suite.h"

/* Of linux/mman.h, where the C library does not have it. */
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

#define PAGES 8
#define SIZE (PAGES * PAGE)
#define REMOTE_ACCESS                                       \
	(IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ | \
	 IBV_ACCESS_REMOTE_ATOMIC)

/**
 * enum memory - what windows are bound to
 * @EXPLICIT: a range on demand
 * @SHIFTED: the same, with other addresses on the wire than in the process
 * @IMPLICIT: the address space
 * @PINNED: a range in ordinary memory
 */
enum memory { EXPLICIT, SHIFTED, IMPLICIT, PINNED };

/**
 * struct variant - what a test is run with
 * @type: of its windows
 * @memory: below them
 */
struct variant {
	enum ibv_mw_type type;
	enum memory memory;
};

/**
 * struct stage - the two sides
 * @fabric: the device
 * @type: of the windows
 * @pair: queue pairs that go on
 * @near: pinned
 * @far: what windows are bound to
 * @faults: of the device, when it began
 */
struct stage {
	struct fabric fabric;
	enum ibv_mw_type type;
	struct pair pair;
	struct region near, far;
	uint64_t faults;
};

/**
 * struct window - a memory window
 * @mw: its rkey is the one it has, or had last
 * @region: bound to
 * @at: first byte there
 * @length: bytes
 * @start: what the first byte is called on the wire
 */
struct window {
	struct ibv_mw *mw;
	struct region *region;
	size_t at, length;
	uint64_t start;
};

static void register_far(struct stage *stage, enum memory memory, size_t size)
{
	int odp = memory == PINNED ? 0 : IBV_ACCESS_ON_DEMAND;
	struct region *far = &stage->far;

	region_make(far, &stage->fabric, size, ALL_ACCESS | odp);
	if (memory != SHIFTED && memory != IMPLICIT)
		return;
	if (ibv_dereg_mr(far->mr))
		wrong("not deregistered");
	if (memory == IMPLICIT) {
		far->mr = ibv_reg_mr(stage->fabric.pd, NULL, SIZE_MAX,
				     ALL_ACCESS | odp);
	} else {
		far->iova = 0x123456789UL * PAGE;
		far->mr = ibv_reg_mr_iova(stage->fabric.pd, far->bytes, size,
					  far->iova, ALL_ACCESS | odp);
	}
	if (!far->mr)
		wrong("not registered: %s", strerror(errno));
}

static void make_pair(struct stage *stage, struct pair *pair)
{
	pair_make(pair, &stage->fabric, IBV_QPT_RC, IBV_MTU_1024, false);
}

static void open_stage(struct stage *stage, const struct variant *variant,
		       size_t size)
{
	unsigned int caps = variant->type == IBV_MW_TYPE_1 ?
				    IBV_DEVICE_MEM_WINDOW :
				    IBV_DEVICE_MEM_WINDOW_TYPE_2B;

	*stage = (struct stage){ .type = variant->type };
	fabric_open(&stage->fabric);
	if (!(stage->fabric.attr.orig_attr.device_cap_flags & caps))
		skip("the device has no windows of this type");
	if (variant->memory != PINNED && !odp_caps(&stage->fabric, IBV_QPT_RC))
		skip("the device has no on-demand paging for RC");
	make_pair(stage, &stage->pair);
	region_make(&stage->near, &stage->fabric, size, ALL_ACCESS);
	register_far(stage, variant->memory, size);
	if (stage->far.odp &&
	    !hw_counter(&stage->fabric, "odp_faults", &stage->faults))
		wrong("the device does not count faults");
}

/* The kernel reads its counters anew only some milliseconds after the last time. */
static void want_moved(const struct fabric *fabric, const char *name,
		       uint64_t before)
{
	time_t late = time(NULL) + 2;
	uint64_t now = before;

	while (hw_counter(fabric, name, &now) && now == before)
		if (time(NULL) > late)
			wrong("%s is what it was", name);
}

static void close_stage(struct stage *stage)
{
	if (stage->far.odp)
		want_moved(&stage->fabric, "odp_faults", stage->faults);
	pair_destroy(&stage->pair);
	region_destroy(&stage->near);
	region_destroy(&stage->far);
}

static struct window window_alloc(struct stage *stage)
{
	struct window window = {
		.mw = ibv_alloc_mw(stage->fabric.pd, stage->type),
	};

	if (!window.mw)
		wrong("no window: %s", strerror(errno));
	return window;
}

static void window_free(struct window *window)
{
	int ret = ibv_dealloc_mw(window->mw);

	if (ret)
		wrong("window not deallocated: %s", strerror(ret));
}

/* As the man pages have it for a type of window. */
static int post_bind(struct end *end, struct ibv_mw *mw, uint32_t rkey,
		     const struct ibv_mw_bind_info *info)
{
	struct ibv_mw_bind bind = { .bind_info = *info };
	struct ibv_send_wr wr = { .opcode = IBV_WR_BIND_MW,
				  .bind_mw = { .mw = mw,
					       .rkey = rkey,
					       .bind_info = *info } },
			   *bad;
	uint32_t old = mw->rkey;
	int ret;

	if (mw->type == IBV_MW_TYPE_2)
		return ibv_post_send(end->qp, &wr, &bad);
	ret = ibv_bind_mw(end->qp, mw, &bind);
	if (!ret && mw->rkey != rkey)
		wrong("rkey %#x after %#x", mw->rkey, old);
	/* Ours until the completion says that it is bound. */
	mw->rkey = old;
	return ret;
}

/* Wait for a bind; the window has RKEY if it succeeds. */
static enum ibv_wc_status wait_bind(struct end *end, struct ibv_mw *mw,
				    uint32_t rkey)
{
	struct ibv_wc wc = end_wait(end, "binder");

	if (wc.status == IBV_WC_SUCCESS) {
		if (wc.opcode != IBV_WC_BIND_MW)
			wrong("completion %d instead of a bind's", wc.opcode);
		mw->rkey = rkey;
	}
	return wc.status;
}

static enum ibv_wc_status try_bind(struct end *end, struct ibv_mw *mw,
				   const struct ibv_mw_bind_info *info)
{
	uint32_t rkey = ibv_inc_rkey(mw->rkey);
	int ret = post_bind(end, mw, rkey, info);

	if (ret)
		wrong("bind is not posted: %s", strerror(ret));
	return wait_bind(end, mw, rkey);
}

static void want(const char *whose, enum ibv_wc_status status,
		 enum ibv_wc_status wanted)
{
	if (status != wanted)
		wrong("the %s has '%s' instead of '%s'", whose,
		      ibv_wc_status_str(status), ibv_wc_status_str(wanted));
}

static void window_bind(struct window *window, struct end *end,
			struct region *region, size_t at, size_t length,
			int access)
{
	struct ibv_mw_bind_info info = { .mr = region->mr,
					 .addr = region->iova + at,
					 .length = length,
					 .mw_access_flags = access };

	want("binder", try_bind(end, window->mw, &info), IBV_WC_SUCCESS);
	window->region = region;
	window->at = at;
	window->length = length;
	window->start = access & IBV_ACCESS_ZERO_BASED ? 0 : info.addr;
}

static enum ibv_wc_status invalidate(struct end *end, uint32_t rkey)
{
	struct ibv_send_wr wr = { .opcode = IBV_WR_LOCAL_INV,
				  .invalidate_rkey = rkey },
			   *bad;
	int ret = ibv_post_send(end->qp, &wr, &bad);

	if (ret)
		wrong("invalidate is not posted: %s", strerror(ret));
	return end_wait(end, "invalidator").status;
}

static void window_unbind(struct window *window, struct end *end)
{
	struct ibv_mw_bind_info nothing = { .mr = window->region->mr };

	if (window->mw->type == IBV_MW_TYPE_2)
		want("invalidator", invalidate(end, window->mw->rkey),
		     IBV_WC_SUCCESS);
	else
		want("binder", try_bind(end, window->mw, &nothing),
		     IBV_WC_SUCCESS);
}

/*
 * The near end of PAIR reaches ADDRESS. Short writes are inline: for those the pair may be of
 * another protection domain than the near memory.
 */
static void post_rdma(struct stage *stage, struct pair *pair,
		      enum ibv_wr_opcode opcode, uint64_t address,
		      uint32_t rkey, size_t near_at, size_t length)
{
	struct ibv_sge sge = region_sge(&stage->near, near_at, length);
	struct ibv_send_wr wr = { .sg_list = &sge,
				  .num_sge = 1,
				  .opcode = opcode },
			   *bad;
	int ret;

	if (opcode == IBV_WR_ATOMIC_FETCH_AND_ADD) {
		wr.wr.atomic.remote_addr = address;
		wr.wr.atomic.rkey = rkey;
		wr.wr.atomic.compare_add = near_at;
	} else {
		wr.wr.rdma.remote_addr = address;
		wr.wr.rdma.rkey = rkey;
	}
	if (opcode == IBV_WR_RDMA_WRITE && length <= MAX_INLINE)
		wr.send_flags = IBV_SEND_INLINE;
	ret = ibv_post_send(pair->near.qp, &wr, &bad);
	if (ret)
		wrong("not posted: %s", strerror(ret));
}

/* What an operation that succeeded has moved. */
static void book(struct stage *stage, enum ibv_wr_opcode opcode,
		 struct region *far, size_t at, size_t near_at, size_t length)
{
	struct region *near = &stage->near;
	uint64_t value;

	if (opcode == IBV_WR_RDMA_WRITE) {
		region_copied(far, at, near, near_at, length);
		return;
	}
	region_copied(near, near_at, far, at, length);
	if (opcode == IBV_WR_ATOMIC_FETCH_AND_ADD) {
		memcpy(&value, far->want + at, 8);
		value += near_at;
		memcpy(far->want + at, &value, 8);
	}
}

/* Move LENGTH bytes through a window, to or from its byte AT, and look at all memory. */
static void transfer(struct stage *stage, struct pair *pair,
		     struct window *window, enum ibv_wr_opcode opcode,
		     size_t at, size_t length)
{
	struct region *far = window->region;
	size_t near_at = below(stage->near.size - length + 1);

	if (opcode == IBV_WR_RDMA_WRITE)
		region_fill(&stage->near, near_at, length);
	else if (opcode == IBV_WR_RDMA_READ)
		region_fill(far, window->at + at, length);
	post_rdma(stage, pair, opcode, window->start + at, window->mw->rkey,
		  near_at, length);
	end_wait_success(&pair->near, "requester");
	book(stage, opcode, far, window->at + at, near_at, length);
	region_check(&stage->near);
	region_check(far);
}

/* Words to the next atomic: none is left out at a border of pages or of the window. */
static size_t next_word(const struct window *window, size_t at)
{
	size_t page_at = (window->at + at) % PAGE;

	if (at < 64 || at + 192 > window->length || page_at < 64 ||
	    page_at + 192 > PAGE)
		return 8;
	return 8 * (1 + below(16));
}

/* Words of a window, from its first to its last. */
static void cover_words(struct stage *stage, struct pair *pair,
			struct window *window)
{
	size_t at = -window->at % 8;

	for (; at + 8 <= window->length; at += next_word(window, at)) {
		snprintf(doing, sizeof(doing), "word at %zu of the %zu at %zu",
			 at, window->length, window->at);
		if (window->region->odp && !below(16))
			region_prepare(window->region, below(EMPTY + 1));
		transfer(stage, pair, window, IBV_WR_ATOMIC_FETCH_AND_ADD, at,
			 8);
	}
	*doing = 0;
}

/* Each byte of a window once, in pieces that are drawn. */
static void cover(struct stage *stage, struct pair *pair, struct window *window,
		  enum ibv_wr_opcode opcode)
{
	size_t length;

	for (size_t at = 0; at < window->length; at += length) {
		length = 1 + below(3 * PAGE / 2);
		if (length > window->length - at)
			length = window->length - at;
		snprintf(doing, sizeof(doing),
			 "%zu bytes at %zu of the %zu at %zu, opcode %d",
			 length, at, window->length, window->at, opcode);
		if (window->region->odp)
			region_prepare(window->region, below(EMPTY + 1));
		transfer(stage, pair, window, opcode, at, length);
	}
	*doing = 0;
}

static void cover_all(struct stage *stage, struct pair *pair,
		      struct window *window)
{
	cover(stage, pair, window, IBV_WR_RDMA_WRITE);
	cover(stage, pair, window, IBV_WR_RDMA_READ);
	cover_words(stage, pair, window);
}

/* Other queue pairs go on, with a window of their own on the same memory. */
static void others_work(struct stage *stage)
{
	struct window window = window_alloc(stage);

	window_bind(&window, &stage->pair.far, &stage->far, PAGE - 3, PAGE,
		    REMOTE_ACCESS);
	transfer(stage, &stage->pair, &window, IBV_WR_RDMA_WRITE, 0, PAGE);
	window_free(&window);
}

static void want_state(struct end *end, const char *whose,
		       enum ibv_qp_state state)
{
	struct ibv_qp_init_attr init;
	struct ibv_qp_attr attr;

	if (ibv_query_qp(end->qp, &attr, IBV_QP_STATE, &init))
		wrong("the %s's state is not known", whose);
	if (attr.qp_state != state)
		wrong("the %s is in state %d instead of %d", whose,
		      attr.qp_state, state);
}

/*
 * The operation ends in a remote access error, both queue pairs with it (IBTA 9.9, class C at
 * the responder), and no byte is moved.
 */
static void must_refuse(struct stage *stage, struct pair *pair,
			enum ibv_wr_opcode opcode, uint64_t address,
			uint32_t rkey, size_t length)
{
	post_receive(&pair->far, NULL, 0);
	post_rdma(stage, pair, opcode, address, rkey, 64, length);
	want("requester", end_wait(&pair->near, "requester").status,
	     IBV_WC_REM_ACCESS_ERR);
	want("responder", end_wait(&pair->far, "responder").status,
	     IBV_WC_WR_FLUSH_ERR);
	want_state(&pair->far, "responder", IBV_QPS_ERR);
	post_rdma(stage, pair, IBV_WR_RDMA_WRITE, stage->far.iova,
		  stage->far.mr->rkey, 64, 1);
	want("requester", end_wait(&pair->near, "requester").status,
	     IBV_WC_WR_FLUSH_ERR);
	region_check(&stage->near);
	region_check(&stage->far);
	others_work(stage);
}

static void every_byte(const void *what)
{
	static const struct {
		size_t at, length;
	} edges[] = { { 0, SIZE },	{ 0, 1 },
		      { SIZE - 1, 1 },	{ PAGE, PAGE },
		      { PAGE - 1, 2 },	{ 3 * PAGE - 9, 17 },
		      { 1, SIZE - 2 },	{ 2 * PAGE + 4, PAGE },
		      { PAGE - 8, 16 }, { 5 * PAGE, 3 * PAGE } };
	struct window window;
	struct stage stage;
	size_t at, length;

	open_stage(&stage, what, SIZE);
	window = window_alloc(&stage);
	for (size_t i = 0; i < COUNT(edges) * 3 / 2; i++) {
		length = 1 + below(3 * PAGE);
		at = below(SIZE - length + 1);
		if (i < COUNT(edges))
			length = edges[i].length, at = edges[i].at;
		window_bind(&window, &stage.pair.far, &stage.far, at, length,
			    REMOTE_ACCESS);
		cover_all(&stage, &stage.pair, &window);
		window_unbind(&window, &stage.pair.far);
	}
	window_free(&window);
	close_stage(&stage);
}

static void zero_based(const void *what)
{
	struct window window;
	struct stage stage;
	struct pair pair;

	open_stage(&stage, what, SIZE);
	for (int odd = 0; odd < 2; odd++) {
		make_pair(&stage, &pair);
		window = window_alloc(&stage);
		window_bind(&window, &pair.far, &stage.far, 2 * PAGE - 8 + odd,
			    PAGE + 30, REMOTE_ACCESS | IBV_ACCESS_ZERO_BASED);
		cover(&stage, &pair, &window, IBV_WR_RDMA_WRITE);
		cover(&stage, &pair, &window, IBV_WR_RDMA_READ);
		/* An atomic's address is a multiple of 8 on the wire, too. */
		if (!odd)
			cover_words(&stage, &pair, &window);
		must_refuse(&stage, &pair, IBV_WR_RDMA_WRITE,
			    odd ? window.length : UINT64_MAX, window.mw->rkey,
			    1);
		window_free(&window);
		pair_destroy(&pair);
	}
	close_stage(&stage);
}

/**
 * struct attempt - what a window must not give
 * @name: for the sentence
 * @opcode: what is posted
 * @access: the window's
 * @end: @at counts from its end, else its start
 * @at: where
 * @length: bytes
 */
struct attempt {
	const char *name;
	enum ibv_wr_opcode opcode;
	int access;
	bool end;
	long at;
	size_t length;
};

/* Make a pair and a window, try, and see that it is refused. */
static void attempt(struct stage *stage, const struct attempt *attempt)
{
	struct window window = window_alloc(stage);
	struct pair pair;

	snprintf(doing, sizeof(doing), "%s", attempt->name);
	make_pair(stage, &pair);
	/* Words lie across both its ends. */
	window_bind(&window, &pair.far, &stage->far, 2 * PAGE + 4, 3 * PAGE,
		    attempt->access);
	must_refuse(stage, &pair, attempt->opcode,
		    window.start + (attempt->end ? window.length : 0) +
			    attempt->at,
		    window.mw->rkey, attempt->length);
	/* One of type 1 goes on, for others. */
	if (stage->type == IBV_MW_TYPE_1 &&
	    attempt->access == (int)REMOTE_ACCESS)
		transfer(stage, &stage->pair, &window, IBV_WR_RDMA_WRITE, 0,
			 window.length);
	window_free(&window);
	pair_destroy(&pair);
	*doing = 0;
}

static void nothing_outside(const void *what)
{
#define WRITE IBV_WR_RDMA_WRITE, REMOTE_ACCESS
#define READ IBV_WR_RDMA_READ, REMOTE_ACCESS
#define ADD IBV_WR_ATOMIC_FETCH_AND_ADD, REMOTE_ACCESS
	static const struct attempt attempts[] = {
		{ "write of the byte before", WRITE, false, -1, 1 },
		{ "read of the byte before", READ, false, -1, 1 },
		{ "write of the byte behind", WRITE, true, 0, 1 },
		{ "read of the byte behind", READ, true, 0, 1 },
		{ "write over the start", WRITE, false, -1, 2 },
		{ "read over the start", READ, false, -1, 2 * PAGE },
		{ "write over the end", WRITE, true, -1, 2 },
		{ "write of packets over the end", WRITE, true, -2 * (long)PAGE,
		  2 * PAGE + 1 },
		{ "read of packets over the end", READ, true, -2 * (long)PAGE,
		  2 * PAGE + 1 },
		{ "write over both ends", WRITE, false, -1, 3 * PAGE + 2 },
		{ "atomic over the start", ADD, false, -4, 8 },
		{ "atomic over the end", ADD, true, -4, 8 },
		{ "atomic behind", ADD, true, 4, 8 },
		{ "write of the page before", WRITE, false, -(long)PAGE, 8 },
		{ "read of the page behind", READ, true, PAGE, 8 },
	};
#undef WRITE
#undef READ
#undef ADD
	struct stage stage;

	open_stage(&stage, what, SIZE);
	for (size_t i = 0; i < COUNT(attempts); i++)
		attempt(&stage, &attempts[i]);
	close_stage(&stage);
}

static void nothing_else(const void *what)
{
	static const struct attempt attempts[] = {
		{ "write, for reading", IBV_WR_RDMA_WRITE,
		  IBV_ACCESS_REMOTE_READ, false, 0, 8 },
		{ "write, for atomics", IBV_WR_RDMA_WRITE,
		  IBV_ACCESS_REMOTE_ATOMIC, false, 0, 8 },
		{ "read, for writing", IBV_WR_RDMA_READ,
		  IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_ATOMIC, false, 0,
		  8 },
		{ "atomic, for the others", IBV_WR_ATOMIC_FETCH_AND_ADD,
		  IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ, false, 4,
		  8 },
		{ "write, for nothing", IBV_WR_RDMA_WRITE, 0, false, 0, 8 },
		{ "read, for nothing", IBV_WR_RDMA_READ, 0, false, 0, 8 },
	};
	struct stage stage;

	open_stage(&stage, what, SIZE);
	for (size_t i = 0; i < COUNT(attempts); i++)
		attempt(&stage, &attempts[i]);
	close_stage(&stage);
}

/* A key that a window does not have any more reaches nothing. */
static void old_keys(const void *what)
{
	enum { REBOUND, UNBOUND, DEALLOCATED };
	static const char *const ways[] = { "rebound", "unbound",
					    "deallocated" };
	struct window window;
	struct stage stage;
	struct pair pair;
	uint32_t rkey;

	open_stage(&stage, what, SIZE);
	for (size_t way = 0; way < COUNT(ways); way++) {
		snprintf(doing, sizeof(doing), "%s", ways[way]);
		make_pair(&stage, &pair);
		window = window_alloc(&stage);
		window_bind(&window, &pair.far, &stage.far, 5, 3 * PAGE,
			    REMOTE_ACCESS);
		transfer(&stage, &pair, &window, IBV_WR_RDMA_WRITE, 0, PAGE);
		rkey = window.mw->rkey;
		if (way == DEALLOCATED) {
			window_free(&window);
		} else if (way == UNBOUND || stage.type == IBV_MW_TYPE_2) {
			window_unbind(&window, &pair.far);
		}
		if (way == REBOUND) {
			window_bind(&window, &pair.far, &stage.far, 5, 3 * PAGE,
				    REMOTE_ACCESS);
			transfer(&stage, &pair, &window, IBV_WR_RDMA_READ, 9,
				 PAGE);
		}
		must_refuse(&stage, &pair, IBV_WR_RDMA_WRITE, window.start,
			    rkey, 8);
		if (way != DEALLOCATED)
			window_free(&window);
		pair_destroy(&pair);
	}
	close_stage(&stage);
}

/* A window without anything, by its key from the start. */
static void never_bound(const void *what)
{
	struct window window;
	struct stage stage;
	struct pair pair;

	open_stage(&stage, what, SIZE);
	make_pair(&stage, &pair);
	window = window_alloc(&stage);
	must_refuse(&stage, &pair, IBV_WR_RDMA_READ, stage.far.iova,
		    window.mw->rkey, 8);
	window_free(&window);
	pair_destroy(&pair);
	close_stage(&stage);
}

/* Who is of another protection domain reaches nothing; nor, with type 2, another queue pair. */
static void not_for_others(const void *what)
{
	struct window window;
	struct fabric foreign;
	struct stage stage;
	struct pair pair;

	open_stage(&stage, what, SIZE);
	foreign = stage.fabric;
	foreign.pd = ibv_alloc_pd(foreign.context);
	if (!foreign.pd)
		wrong("no protection domain: %s", strerror(errno));
	window = window_alloc(&stage);
	window_bind(&window, &stage.pair.far, &stage.far, 3, 2 * PAGE,
		    REMOTE_ACCESS);
	pair_make(&pair, &foreign, IBV_QPT_RC, IBV_MTU_1024, false);
	must_refuse(&stage, &pair, IBV_WR_RDMA_WRITE, window.start,
		    window.mw->rkey, 8);
	pair_destroy(&pair);
	make_pair(&stage, &pair);
	if (stage.type == IBV_MW_TYPE_2)
		must_refuse(&stage, &pair, IBV_WR_RDMA_WRITE, window.start,
			    window.mw->rkey, 8);
	else
		transfer(&stage, &pair, &window, IBV_WR_RDMA_READ, 1, PAGE);
	pair_destroy(&pair);
	transfer(&stage, &stage.pair, &window, IBV_WR_RDMA_WRITE, 1, PAGE);
	window_free(&window);
	if (ibv_dealloc_pd(foreign.pd))
		wrong("the protection domain is not deallocated");
	close_stage(&stage);
}

/* To other parts, other memory, other rights; what it left is not reached. */
static void rebound(const void *what)
{
	struct window window;
	struct region second;
	struct stage stage;
	struct pair pair;

	open_stage(&stage, what, SIZE);
	make_pair(&stage, &pair);
	region_make(&second, &stage.fabric, SIZE,
		    ALL_ACCESS | IBV_ACCESS_ON_DEMAND);
	window = window_alloc(&stage);
	for (int i = 0; i < 40; i++) {
		struct region *region = below(2) ? &second : &stage.far;
		size_t length = 8 + below(2 * PAGE);
		size_t at = below(SIZE - length + 1);

		/* One of type 1 goes from binding to binding, or by way of none. */
		if (i && (stage.type == IBV_MW_TYPE_2 || below(2)))
			window_unbind(&window, &pair.far);
		window_bind(&window, &pair.far, region, at, length,
			    REMOTE_ACCESS);
		transfer(&stage, &pair, &window, IBV_WR_RDMA_WRITE, 0, length);
		transfer(&stage, &pair, &window, IBV_WR_RDMA_READ, 0, length);
	}
	if (window.region == &stage.far || stage.type == IBV_MW_TYPE_2)
		window_unbind(&window, &pair.far);
	window_bind(&window, &pair.far, &second, PAGE, PAGE, REMOTE_ACCESS);
	region_check(&second);
	must_refuse(&stage, &pair, IBV_WR_RDMA_WRITE, stage.far.iova + PAGE,
		    window.mw->rkey, 8);
	region_check(&second);
	window_free(&window);
	pair_destroy(&pair);
	region_destroy(&second);
	close_stage(&stage);
}

/* A message takes the window with it; the receiver is told which. */
static void invalidated_by_send(const void *what)
{
	struct ibv_send_wr wr = { .num_sge = 1,
				  .opcode = IBV_WR_SEND_WITH_INV },
			   *bad;
	struct window window;
	struct ibv_sge from, to;
	struct stage stage;
	struct ibv_wc wc;
	struct pair pair;
	int ret;

	open_stage(&stage, what, SIZE);
	make_pair(&stage, &pair);
	window = window_alloc(&stage);
	for (int i = 0; i < 20; i++) {
		window_bind(&window, &pair.far, &stage.far, i, 2 * PAGE,
			    REMOTE_ACCESS);
		transfer(&stage, &pair, &window, IBV_WR_RDMA_WRITE, 0,
			 2 * PAGE);
		from = region_sge(&stage.near, i, PAGE);
		to = region_sge(&stage.far, PAGE + i, PAGE);
		/* The receive buffer is an MR's, whatever the window is. */
		post_receive(&pair.far, &to, 1);
		wr.sg_list = &from;
		wr.invalidate_rkey = window.mw->rkey;
		ret = ibv_post_send(pair.near.qp, &wr, &bad);
		if (ret)
			wrong("not posted: %s", strerror(ret));
		end_wait_success(&pair.near, "sender");
		wc = end_wait_success(&pair.far, "receiver");
		if (!(wc.wc_flags & IBV_WC_WITH_INV) ||
		    wc.invalidated_rkey != window.mw->rkey)
			wrong("flags %#x and rkey %#x at the receiver",
			      wc.wc_flags, wc.invalidated_rkey);
		region_copied(&stage.far, PAGE + i, &stage.near, i, PAGE);
		region_check(&stage.far);
	}
	must_refuse(&stage, &pair, IBV_WR_RDMA_WRITE, window.start,
		    window.mw->rkey, 8);
	window_free(&window);
	pair_destroy(&pair);
	close_stage(&stage);
}

/* A message from another pair does not take a window with it: its receiver ends instead. */
static void kept_from_others(const void *what)
{
	struct ibv_send_wr wr = { .opcode = IBV_WR_SEND_WITH_INV }, *bad;
	struct window window;
	struct stage stage;
	struct pair pair;
	int ret;

	open_stage(&stage, what, SIZE);
	window = window_alloc(&stage);
	window_bind(&window, &stage.pair.far, &stage.far, 7, PAGE,
		    REMOTE_ACCESS);
	make_pair(&stage, &pair);
	post_receive(&pair.far, NULL, 0);
	wr.invalidate_rkey = window.mw->rkey;
	ret = ibv_post_send(pair.near.qp, &wr, &bad);
	if (ret)
		wrong("not posted: %s", strerror(ret));
	want("receiver", end_wait(&pair.far, "receiver").status,
	     IBV_WC_REM_INV_REQ_ERR);
	transfer(&stage, &stage.pair, &window, IBV_WR_RDMA_WRITE, 0, PAGE);
	pair_destroy(&pair);
	make_pair(&stage, &pair);
	if (invalidate(&pair.far, window.mw->rkey) == IBV_WC_SUCCESS)
		wrong("another queue pair has invalidated the window");
	transfer(&stage, &stage.pair, &window, IBV_WR_RDMA_READ, 0, PAGE);
	pair_destroy(&pair);
	window_free(&window);
	close_stage(&stage);
}

/* A window that is not bound, by its own queue pair: there is nothing to invalidate. */
static void invalidated_once(const void *what)
{
	struct window window;
	struct stage stage;
	struct pair pair;

	open_stage(&stage, what, SIZE);
	make_pair(&stage, &pair);
	window = window_alloc(&stage);
	window_bind(&window, &pair.far, &stage.far, 7, PAGE, REMOTE_ACCESS);
	window_unbind(&window, &pair.far);
	if (invalidate(&pair.far, window.mw->rkey) == IBV_WC_SUCCESS)
		wrong("invalidated twice");
	pair_destroy(&pair);
	window_free(&window);
	others_work(&stage);
	close_stage(&stage);
}

/* A window is older than the queue pair that it was bound on, and nobody takes it down. */
static void dies_bound(const void *what)
{
	time_t start = time(NULL), seconds;
	struct window window;
	struct stage stage;
	struct pair pair;
	int status;
	pid_t child = fork();

	if (!child) {
		open_stage(&stage, what, SIZE);
		window = window_alloc(&stage);
		make_pair(&stage, &pair);
		window_bind(&window, &pair.far, &stage.far, 7, PAGE,
			    REMOTE_ACCESS);
		transfer(&stage, &pair, &window, IBV_WR_RDMA_WRITE, 0, PAGE);
		_exit(0);
	}
	if (child < 0 || waitpid(child, &status, 0) != child || status)
		wrong("the process did not do its work");
	seconds = time(NULL) - start;
	if (seconds > 15)
		wrong("the process took %ld s to end", (long)seconds);
}

/**
 * struct odds - what a window cannot be bound to, or by
 * @foreign: the device with another protection domain
 * @unbindable: an MR without IBV_ACCESS_MW_BIND
 * @read_only: one without IBV_ACCESS_LOCAL_WRITE
 * @foreign_mr: one of the other protection domain
 * @gone: what is left of one that was deregistered
 */
struct odds {
	struct fabric foreign;
	struct ibv_mr *unbindable, *read_only, *foreign_mr, gone;
};

static struct ibv_mr *same_memory(struct stage *stage, struct ibv_pd *pd,
				  int access)
{
	struct region *far = &stage->far;
	struct ibv_mr *mr =
		ibv_reg_mr(pd, far->bytes, far->size,
			   access | (far->odp ? IBV_ACCESS_ON_DEMAND : 0));

	if (!mr)
		wrong("not registered with access %#x: %s", access,
		      strerror(errno));
	return mr;
}

static void odds_make(struct odds *odds, struct stage *stage)
{
	struct ibv_pd *pd = stage->fabric.pd;
	struct ibv_mr *mr;

	odds->foreign = stage->fabric;
	odds->foreign.pd = ibv_alloc_pd(stage->fabric.context);
	if (!odds->foreign.pd)
		wrong("no protection domain: %s", strerror(errno));
	odds->foreign_mr = same_memory(stage, odds->foreign.pd, ALL_ACCESS);
	odds->unbindable =
		same_memory(stage, pd, ALL_ACCESS & ~IBV_ACCESS_MW_BIND);
	odds->read_only = same_memory(
		stage, pd, IBV_ACCESS_REMOTE_READ | IBV_ACCESS_MW_BIND);
	mr = same_memory(stage, pd, ALL_ACCESS);
	odds->gone = *mr;
	if (ibv_dereg_mr(mr))
		wrong("not deregistered");
}

static void odds_destroy(struct odds *odds)
{
	if (ibv_dereg_mr(odds->unbindable) || ibv_dereg_mr(odds->read_only) ||
	    ibv_dereg_mr(odds->foreign_mr) || ibv_dealloc_pd(odds->foreign.pd))
		wrong("something is still in use");
}

/* Post what libverbs may refuse for a type of window that the device may not. */
static int post_any_bind(struct end *end, struct ibv_mw *mw, uint32_t rkey,
			 const struct ibv_mw_bind_info *info)
{
	ibv_wr_start(end->ex);
	ibv_wr_bind_mw(end->ex, mw, rkey, info);
	return ibv_wr_complete(end->ex);
}

/* A bind that ends the queue pair it is posted to, and leaves the window as it was. */
static void must_not_bind(struct stage *stage, const struct fabric *fabric,
			  struct window *window,
			  const struct ibv_mw_bind_info *info, const char *name)
{
	uint32_t rkey = window->mw->rkey;
	struct pair pair;

	snprintf(doing, sizeof(doing), "%s", name);
	pair_make(&pair, fabric, IBV_QPT_RC, IBV_MTU_1024, false);
	if (post_any_bind(&pair.far, window->mw, ibv_inc_rkey(rkey), info))
		wrong("bind is not posted");
	want("binder", wait_bind(&pair.far, window->mw, ibv_inc_rkey(rkey)),
	     IBV_WC_MW_BIND_ERR);
	want_state(&pair.far, "binder", IBV_QPS_ERR);
	pair_destroy(&pair);
	if (window->mw->rkey != rkey)
		wrong("rkey %#x instead of %#x", window->mw->rkey, rkey);
	/* Bound or not, it is what it was. */
	if (!window->region)
		window_bind(window, &stage->pair.far, &stage->far, PAGE - 1,
			    2 * PAGE, REMOTE_ACCESS);
	transfer(stage, &stage->pair, window, IBV_WR_RDMA_WRITE, 0, 2 * PAGE);
	transfer(stage, &stage->pair, window, IBV_WR_RDMA_READ, 0, 2 * PAGE);
	*doing = 0;
}

/* The same with a window as a bind needs it: of type 1 bound already, of type 2 not. */
static void must_refuse_bind(struct stage *stage, const struct fabric *fabric,
			     struct ibv_mw_bind_info info, const char *name)
{
	struct window window = window_alloc(stage);

	if (stage->type == IBV_MW_TYPE_1)
		window_bind(&window, &stage->pair.far, &stage->far, PAGE - 1,
			    2 * PAGE, REMOTE_ACCESS);
	must_not_bind(stage, fabric, &window, &info, name);
	window_free(&window);
}

static void refused_ranges(const void *what)
{
	static const struct {
		const char *name;
		int64_t at;
		uint64_t length;
	} ranges[] = {
		{ "begins before", -1, 2 },
		{ "lies before", -(int64_t)PAGE, PAGE },
		{ "ends behind", SIZE - 1, 2 },
		{ "lies behind", SIZE, 1 },
		{ "is longer", 0, SIZE + 1 },
		{ "is all there can be", 0, UINT64_MAX },
		{ "wraps to its start", -2, UINT64_MAX },
	};
	struct ibv_mw_bind_info info;
	struct stage stage;

	open_stage(&stage, what, SIZE);
	info.mr = stage.far.mr;
	info.mw_access_flags = REMOTE_ACCESS;
	for (size_t i = 0; i < COUNT(ranges); i++) {
		info.addr = stage.far.iova + ranges[i].at;
		info.length = ranges[i].length;
		must_refuse_bind(&stage, &stage.fabric, info, ranges[i].name);
	}
	close_stage(&stage);
}

static void refused_binds(const void *what)
{
	struct ibv_mw_bind_info good, info;
	struct stage stage;
	struct odds odds;

	open_stage(&stage, what, SIZE);
	odds_make(&odds, &stage);
	good = (struct ibv_mw_bind_info){ .mr = stage.far.mr,
					  .addr = stage.far.iova + PAGE,
					  .length = PAGE,
					  .mw_access_flags = REMOTE_ACCESS };
	must_refuse_bind(&stage, &odds.foreign, good,
			 "a queue pair of another protection domain");
	info = good;
	info.addr = UINT64_MAX - 3;
	must_refuse_bind(&stage, &stage.fabric, info, "a range that wraps");
	if (stage.type == IBV_MW_TYPE_2) {
		info = good;
		info.length = 0;
		must_refuse_bind(&stage, &stage.fabric, info, "no length");
	} else {
		info = good;
		info.mw_access_flags |= IBV_ACCESS_ZERO_BASED;
		must_refuse_bind(&stage, &stage.fabric, info, "zero based");
	}
	good.addr = (uintptr_t)stage.far.bytes + PAGE;
	info = good;
	info.mr = odds.foreign_mr;
	must_refuse_bind(&stage, &stage.fabric, info,
			 "memory of another protection domain");
	info.mr = odds.unbindable;
	must_refuse_bind(&stage, &stage.fabric, info,
			 "memory that is not for windows");
	info.mr = &odds.gone;
	must_refuse_bind(&stage, &stage.fabric, info, "memory that is gone");
	info.mr = odds.read_only;
	info.mw_access_flags = IBV_ACCESS_REMOTE_WRITE;
	must_refuse_bind(&stage, &stage.fabric, info, "writes to read-only");
	info.mw_access_flags = IBV_ACCESS_REMOTE_ATOMIC;
	must_refuse_bind(&stage, &stage.fabric, info, "atomics on read-only");
	odds_destroy(&odds);
	close_stage(&stage);
}

/* A bound window of type 2 must be invalidated before it is bound again. */
static void bound_once(const void *what)
{
	struct ibv_mw_bind_info info = { .mw_access_flags = REMOTE_ACCESS,
					 .length = PAGE };
	struct window window;
	struct stage stage;

	open_stage(&stage, what, SIZE);
	info.mr = stage.far.mr;
	info.addr = stage.far.iova;
	window = window_alloc(&stage);
	window_bind(&window, &stage.pair.far, &stage.far, PAGE + 1, 2 * PAGE,
		    REMOTE_ACCESS);
	must_not_bind(&stage, &stage.fabric, &window, &info, "bound already");
	window_free(&window);
	close_stage(&stage);
}

/* Where a window begins counts, whatever its first byte is called on the wire. */
static void refused_zero_based(const void *what)
{
	struct ibv_mw_bind_info info = {
		.length = 2,
		.mw_access_flags = REMOTE_ACCESS | IBV_ACCESS_ZERO_BASED,
	};
	struct stage stage;

	open_stage(&stage, what, SIZE);
	info.mr = stage.far.mr;
	info.addr = stage.far.iova - 1;
	must_refuse_bind(&stage, &stage.fabric, info, "begins before");
	info.addr = stage.far.iova + SIZE - 1;
	must_refuse_bind(&stage, &stage.fabric, info, "ends behind");
	close_stage(&stage);
}

/* What libverbs says before anything is posted, as ibv_bind_mw(3) has it. */
static void refused_by_library(const void *what)
{
	struct ibv_mw_bind bind = {};
	struct window window;
	struct fabric foreign;
	struct ibv_mr *mr;
	struct stage stage;
	uint32_t rkey;
	int ret;

	open_stage(&stage, what, SIZE);
	window = window_alloc(&stage);
	rkey = window.mw->rkey;
	bind.bind_info = (struct ibv_mw_bind_info){ .mr = stage.far.mr,
						    .addr = stage.far.iova,
						    .length = PAGE };
	if (stage.type == IBV_MW_TYPE_2) {
		ret = ibv_bind_mw(stage.pair.far.qp, window.mw, &bind);
		if (ret != EINVAL)
			wrong("type 2: %s", strerror(ret));
	} else {
		bind.bind_info.mw_access_flags = IBV_ACCESS_ZERO_BASED;
		ret = ibv_bind_mw(stage.pair.far.qp, window.mw, &bind);
		if (ret != EINVAL)
			wrong("zero based: %s", strerror(ret));
		bind.bind_info.mr = NULL;
		bind.bind_info.mw_access_flags = 0;
		ret = ibv_bind_mw(stage.pair.far.qp, window.mw, &bind);
		if (ret != EINVAL)
			wrong("no MR: %s", strerror(ret));
		foreign = stage.fabric;
		foreign.pd = ibv_alloc_pd(foreign.context);
		mr = same_memory(&stage, foreign.pd, ALL_ACCESS);
		bind.bind_info.mr = mr;
		ret = ibv_bind_mw(stage.pair.far.qp, window.mw, &bind);
		if (ret != EPERM)
			wrong("another protection domain: %s", strerror(ret));
		if (ibv_dereg_mr(mr) || ibv_dealloc_pd(foreign.pd))
			wrong("something is still in use");
	}
	if (window.mw->rkey != rkey)
		wrong("rkey %#x instead of %#x", window.mw->rkey, rkey);
	window_free(&window);
	others_work(&stage);
	close_stage(&stage);
}

/*
 * An MR stays while a window is bound to it (IBTA 10.6.7.2.6, ibv_dereg_mr(3)); neither names
 * the errno: EINVAL is soft-RoCE's.
 */
static void must_stay(struct stage *stage)
{
	int ret = ibv_dereg_mr(stage->far.mr);

	if (!ret)
		wrong("deregistered below a window");
	if (ret != EINVAL)
		wrong("deregistering below a window: %s", strerror(ret));
}

static void mr_stays_below(const void *what)
{
	struct window windows[2], all = {};
	struct stage stage;
	struct ibv_mw mw;

	open_stage(&stage, what, SIZE);
	/* The memory by its own key, as if it were a window. */
	mw.rkey = stage.far.mr->rkey;
	all = (struct window){ .mw = &mw,
			       .region = &stage.far,
			       .length = SIZE,
			       .start = stage.far.iova };
	for (int i = 0; i < 2; i++) {
		windows[i] = window_alloc(&stage);
		window_bind(&windows[i], &stage.pair.far, &stage.far,
			    i * PAGE + 1, 2 * PAGE, REMOTE_ACCESS);
	}
	for (int left = 2; left; left--) {
		must_stay(&stage);
		transfer(&stage, &stage.pair, &all, IBV_WR_RDMA_WRITE, 0, SIZE);
		for (int i = 0; i < left; i++)
			cover(&stage, &stage.pair, &windows[i],
			      IBV_WR_RDMA_WRITE);
		if (left == 2)
			window_unbind(&windows[1], &stage.pair.far);
		else
			window_free(&windows[0]);
	}
	cover(&stage, &stage.pair, &all, IBV_WR_RDMA_READ);
	window_free(&windows[1]);
	/* Here it is deregistered. */
	close_stage(&stage);
}

/* Long enough for huge pages. */
#define LONG_SIZE (4UL << 20)
#define MESSAGES 100
/* How often something must have been done to the memory meanwhile, at least. */
#define DEEDS 20

/**
 * struct churn - a thread that takes pages
 * @region: of this
 * @random: its own sequence
 * @ends: told to
 * @done: how often it did something
 */
struct churn {
	struct region *region;
	uint64_t random;
	bool ends;
	unsigned long done;
};

static uint64_t next(uint64_t *random)
{
	*random ^= *random << 13;
	*random ^= *random >> 7;
	*random ^= *random << 17;
	return *random;
}

/* The child writes to copies that nobody else sees; who writes next here has one, too. */
static void fork_child(uint8_t *bytes, size_t length)
{
	pid_t child = fork();
	int status;

	if (!child) {
		for (size_t i = 0; i < length; i += PAGE)
			bytes[i] ^= 0xff;
		_exit(0);
	}
	if (child < 0 || waitpid(child, &status, 0) != child || status)
		wrong("no child");
}

/* What the process does not notice. */
static void take_some(struct churn *churn)
{
	struct region *region = churn->region;
	size_t page = next(&churn->random) % (region->size / PAGE);
	size_t pages = 1 + next(&churn->random) % 64;
	uint8_t *bytes = region->bytes + page * PAGE;

	if (pages > region->size / PAGE - page)
		pages = region->size / PAGE - page;
	switch (next(&churn->random) % 4) {
	case 0:
		if (madvise(bytes, pages * PAGE, MADV_PAGEOUT))
			wrong("not swapped: %s", strerror(errno));
		break;
	case 1:
		/* EINVAL and EAGAIN are its way to say that there is no room for one. */
		if (madvise(region->bytes, region->size, MADV_COLLAPSE) &&
		    errno == ENOSYS)
			wrong("no huge pages: %s", strerror(errno));
		break;
	case 2:
		fork_child(bytes, pages * PAGE);
		break;
	case 3:
		/* Writable all the time: the other thread fills it. */
		if (mprotect(bytes, pages * PAGE,
			     PROT_READ | PROT_WRITE | PROT_EXEC) ||
		    mprotect(bytes, pages * PAGE, PROT_READ | PROT_WRITE))
			wrong("mprotect: %s", strerror(errno));
		break;
	}
}

static bool load(const bool *flag)
{
	return __atomic_load_n(flag, __ATOMIC_ACQUIRE);
}

static void set(bool *flag)
{
	__atomic_store_n(flag, true, __ATOMIC_RELEASE);
}

static void *churn(void *arg)
{
	struct churn *churn = arg;

	while (!load(&churn->ends)) {
		take_some(churn);
		__atomic_fetch_add(&churn->done, 1, __ATOMIC_RELAXED);
	}
	return NULL;
}

static void start(pthread_t *thread, void *(*run)(void *), void *arg)
{
	if (pthread_create(thread, NULL, run, arg))
		wrong("no thread");
}

/* A message of any kind somewhere in a window. */
static void any_transfer(struct stage *stage, struct window *window)
{
	static const enum ibv_wr_opcode opcodes[] = {
		IBV_WR_RDMA_WRITE,
		IBV_WR_RDMA_READ,
		IBV_WR_ATOMIC_FETCH_AND_ADD,
	};
	enum ibv_wr_opcode opcode = opcodes[below(COUNT(opcodes))];
	size_t length = 1 + below(below(8) ? 9000 : 200000), at;

	if (length > window->length)
		length = window->length;
	if (opcode == IBV_WR_ATOMIC_FETCH_AND_ADD)
		length = 8;
	at = below(window->length - length + 1);
	if (opcode == IBV_WR_ATOMIC_FETCH_AND_ADD) {
		/* The first word from there on, or else the last one. */
		at += -(window->at + at) % 8;
		if (at + 8 > window->length)
			at -= 8;
	}
	transfer(stage, &stage->pair, window, opcode, at, length);
}

static void pages_go(const void *what)
{
	struct churn other = { .random = draw() | 1 };
	uint64_t before = 0;
	struct window window;
	struct stage stage;
	pthread_t thread;
	size_t messages = options.count ?: MESSAGES, length;

	open_stage(&stage, what, LONG_SIZE);
	other.region = &stage.far;
	window = window_alloc(&stage);
	hw_counter(&stage.fabric, "odp_page_invalidations", &before);
	start(&thread, churn, &other);
	for (size_t i = 0;
	     i < messages ||
	     __atomic_load_n(&other.done, __ATOMIC_RELAXED) < DEEDS;
	     i++) {
		snprintf(doing, sizeof(doing), "message %zu", i);
		if (i % 8 == 0) {
			if (i)
				window_unbind(&window, &stage.pair.far);
			length = 16 + below(LONG_SIZE - 16);
			window_bind(&window, &stage.pair.far, &stage.far,
				    below(LONG_SIZE - length + 1), length,
				    REMOTE_ACCESS);
		}
		any_transfer(&stage, &window);
	}
	set(&other.ends);
	pthread_join(thread, NULL);
	*doing = 0;
	printf("# done %lu times\n", other.done);
	if (stage.far.odp)
		want_moved(&stage.fabric, "odp_page_invalidations", before);
	window_free(&window);
	close_stage(&stage);
}

/**
 * struct race - two threads, and an MR that may go
 * @stage: the device
 * @pair: whose far end binds
 * @window: bound and unbound
 * @mr: what it is bound to: a copy, the registration is freed
 * @region: on that
 * @registration: for the thread that deregisters
 * @random: of the thread that binds
 * @gone: it was deregistered
 * @ends: the threads are told to
 * @bound: how often the window was
 * @stayed: how often it was not deregistered
 */
struct race {
	struct stage *stage;
	struct pair pair;
	struct window window;
	struct ibv_mr mr, *registration;
	struct region region;
	uint64_t random;
	bool gone, ends;
	unsigned long bound, stayed;
};

static enum ibv_wc_status race_bind(struct race *race)
{
	const struct region *region = &race->region;
	size_t length = 1 + next(&race->random) % region->size;
	struct ibv_mw_bind_info info = {
		.mr = region->mr,
		.addr = region->iova +
			next(&race->random) % (region->size - length + 1),
		.length = length,
		.mw_access_flags = REMOTE_ACCESS,
	};

	return try_bind(&race->pair.far, race->window.mw, &info);
}

/* Binds, until told to end or the MR is gone. */
static void *binder(void *arg)
{
	struct race *race = arg;
	enum ibv_wc_status status;
	bool gone;

	while (!load(&race->ends)) {
		gone = load(&race->gone);
		status = race_bind(race);
		if (status == IBV_WC_MW_BIND_ERR)
			break;
		want("binder", status, IBV_WC_SUCCESS);
		if (gone)
			wrong("bound to an MR that is gone");
		__atomic_fetch_add(&race->bound, 1, __ATOMIC_RELAXED);
		window_unbind(&race->window, &race->pair.far);
	}
	return NULL;
}

/* Deregisters, until told to end or it is done. */
static void *deregisterer(void *arg)
{
	struct race *race = arg;
	int ret;

	while (!load(&race->ends)) {
		ret = ibv_dereg_mr(race->registration);
		if (!ret) {
			set(&race->gone);
			break;
		}
		if (ret != EINVAL)
			wrong("deregistering: %s", strerror(ret));
		__atomic_fetch_add(&race->stayed, 1, __ATOMIC_RELAXED);
	}
	return NULL;
}

static void race_make(struct race *race, struct stage *stage, struct ibv_mr *mr,
		      uint64_t iova)
{
	*race = (struct race){ .stage = stage,
			       .mr = *mr,
			       .region = { .mr = &race->mr,
					   .iova = iova,
					   .size = stage->far.size },
			       .registration = mr,
			       .random = draw() | 1 };
	make_pair(stage, &race->pair);
	race->window = window_alloc(stage);
	race->window.region = &race->region;
}

static void race_destroy(struct race *race)
{
	window_free(&race->window);
	pair_destroy(&race->pair);
}

/*
 * One window carries traffic, so that the MR must stay; another comes and goes, and somebody
 * tries to deregister the MR all the time.
 */
static void stays_in_races(const void *what)
{
	size_t messages = options.count ?: MESSAGES;
	struct window window;
	struct stage stage;
	struct race race;
	pthread_t threads[2];

	open_stage(&stage, what, SIZE);
	window = window_alloc(&stage);
	window_bind(&window, &stage.pair.far, &stage.far, 3, SIZE - 5,
		    REMOTE_ACCESS);
	race_make(&race, &stage, stage.far.mr, stage.far.iova);
	start(&threads[0], binder, &race);
	start(&threads[1], deregisterer, &race);
	for (size_t i = 0;
	     i < messages ||
	     __atomic_load_n(&race.bound, __ATOMIC_RELAXED) < DEEDS ||
	     __atomic_load_n(&race.stayed, __ATOMIC_RELAXED) < DEEDS;
	     i++) {
		snprintf(doing, sizeof(doing), "message %zu", i);
		if (stage.far.odp && !below(4))
			region_prepare(&stage.far, COLD);
		any_transfer(&stage, &window);
	}
	set(&race.ends);
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	*doing = 0;
	printf("# bound %lu times, stayed %lu times\n", race.bound,
	       race.stayed);
	if (race.gone)
		wrong("deregistered below a window");
	race_destroy(&race);
	window_free(&window);
	close_stage(&stage);
}

/*
 * Nothing else keeps the MR: it goes when it has no window, and has none from then on. What is
 * on other memory goes on.
 */
static void goes_in_races(const void *what)
{
	size_t rounds = (options.count ?: MESSAGES) / 4;
	unsigned long bound = 0, stayed = 0;
	struct window window;
	struct stage stage;
	struct race race;
	pthread_t threads[2];

	open_stage(&stage, what, SIZE);
	window = window_alloc(&stage);
	window_bind(&window, &stage.pair.far, &stage.far, 3, SIZE - 5,
		    REMOTE_ACCESS);
	for (size_t i = 0; i < rounds; i++) {
		snprintf(doing, sizeof(doing), "round %zu", i);
		race_make(&race, &stage,
			  same_memory(&stage, stage.fabric.pd, ALL_ACCESS),
			  (uintptr_t)stage.far.bytes);
		start(&threads[0], binder, &race);
		start(&threads[1], deregisterer, &race);
		do
			any_transfer(&stage, &window);
		while (!load(&race.gone));
		for (int t = 0; t < 2; t++)
			pthread_join(threads[t], NULL);
		bound += race.bound;
		stayed += race.stayed;
		race_destroy(&race);
	}
	*doing = 0;
	printf("# bound %lu times, stayed %lu times in %zu rounds\n", bound,
	       stayed, rounds);
	window_free(&window);
	close_stage(&stage);
}

/**
 * struct behaviour - a test, and what it is run with
 * @name: what is true if it passes
 * @run: shows it
 * @types: of windows, as bits
 * @memories: below them, as bits
 */
struct behaviour {
	const char *name;
	void (*run)(const void *what);
	unsigned int types, memories;
};

#define BIT(nr) (1U << (nr))
#define TYPE_1 BIT(IBV_MW_TYPE_1)
#define TYPE_2 BIT(IBV_MW_TYPE_2)
#define BOTH (TYPE_1 | TYPE_2)
#define RANGES (BIT(EXPLICIT) | BIT(SHIFTED))
#define ANY (RANGES | BIT(IMPLICIT) | BIT(PINNED))

static const struct behaviour behaviours[] = {
	{ "every_byte", every_byte, BOTH, ANY },
	{ "nothing_outside", nothing_outside, BOTH, ANY },
	{ "nothing_else", nothing_else, BOTH, ANY },
	{ "old_keys", old_keys, BOTH, ANY },
	{ "never_bound", never_bound, BOTH, ANY },
	{ "not_for_others", not_for_others, BOTH, ANY },
	{ "zero_based", zero_based, TYPE_2, ANY },
	{ "rebound", rebound, BOTH, ANY },
	{ "invalidated_by_send", invalidated_by_send, TYPE_2, ANY },
	{ "refused_ranges", refused_ranges, BOTH, RANGES | BIT(PINNED) },
	{ "refused_binds", refused_binds, BOTH, ANY },
	{ "bound_once", bound_once, TYPE_2, BIT(EXPLICIT) | BIT(PINNED) },
	{ "refused_zero_based", refused_zero_based, TYPE_2,
	  RANGES | BIT(PINNED) },
	{ "kept_from_others", kept_from_others, TYPE_2, BIT(EXPLICIT) },
	{ "invalidated_once", invalidated_once, TYPE_2, BIT(EXPLICIT) },
	{ "dies_bound", dies_bound, BOTH, BIT(EXPLICIT) },
	{ "refused_by_library", refused_by_library, BOTH, BIT(EXPLICIT) },
	{ "mr_stays_below", mr_stays_below, BOTH, ANY },
	{ "pages_go", pages_go, BOTH, BIT(EXPLICIT) | BIT(IMPLICIT) },
	{ "stays_in_races", stays_in_races, BOTH, ANY },
	{ "goes_in_races", goes_in_races, BOTH, ANY },
};

static const char *const memories[] = {
	[EXPLICIT] = "explicit",
	[SHIFTED] = "shifted",
	[IMPLICIT] = "implicit",
	[PINNED] = "pinned",
};

static struct test tests[COUNT(behaviours) * 2 * COUNT(memories)];

static size_t list_variants(const struct behaviour *behaviour, size_t nr)
{
	for (size_t i = 0; i < 2 * COUNT(memories); i++) {
		enum ibv_mw_type type = i % 2 ? IBV_MW_TYPE_2 : IBV_MW_TYPE_1;
		enum memory memory = i / 2;
		struct variant *variant;
		char *name;

		if (!(behaviour->types & BIT(type)) ||
		    !(behaviour->memories & BIT(memory)))
			continue;
		variant = malloc(sizeof(*variant));
		*variant = (struct variant){ type, memory };
		if (asprintf(&name, "%s_type%d_%s", behaviour->name, (int)type,
			     memories[memory]) < 0)
			wrong("no memory");
		tests[nr++] = (struct test){ name, behaviour->run, variant };
	}
	return nr;
}

int main(int argc, char **argv)
{
	size_t nr = 0;

	for (size_t i = 0; i < COUNT(behaviours); i++)
		nr = list_variants(&behaviours[i], nr);
	return run_tests(argc, argv, tests, nr);
}
