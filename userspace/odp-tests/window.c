// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
// Copyright (c) 2026 The Twostep authors

#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "window.h"

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

void make_pair(struct stage *stage, struct pair *pair)
{
	pair_make(pair, &stage->fabric, IBV_QPT_RC, IBV_MTU_1024, false);
}

void open_stage(struct stage *stage, const struct variant *variant, size_t size)
{
	unsigned int caps = variant->type == IBV_MW_TYPE_1 ?
				    IBV_DEVICE_MEM_WINDOW :
				    IBV_DEVICE_MEM_WINDOW_TYPE_2B;

	*stage = (struct stage){ .type = variant->type };
	/* Pinned memory is there to compare with. */
	fabric_open_odp(&stage->fabric, IBV_QPT_RC);
	if (!(stage->fabric.attr.orig_attr.device_cap_flags & caps))
		skip(DEVICE, "it has no windows of this type");
	if (variant->memory == IMPLICIT)
		need_implicit(&stage->fabric);
	make_pair(stage, &stage->pair);
	region_make(&stage->near, &stage->fabric, size, ALL_ACCESS);
	register_far(stage, variant->memory, size);
	stage->counted = stage->far.odp &&
			 hw_counter("odp_faults", &stage->faults);
}

/* The kernel reads its counters anew only some milliseconds after the last time. */
void want_moved(const char *name, uint64_t before)
{
	time_t late = time(NULL) + 2;
	uint64_t now = before;

	while (hw_counter(name, &now) && now == before)
		if (time(NULL) > late)
			wrong("%s is what it was", name);
}

void close_stage(struct stage *stage)
{
	if (stage->counted)
		want_moved("odp_faults", stage->faults);
	pair_destroy(&stage->pair);
	region_destroy(&stage->near);
	region_destroy(&stage->far);
}

struct window window_alloc(struct stage *stage)
{
	struct window window = {
		.mw = ibv_alloc_mw(stage->fabric.pd, stage->type),
	};

	if (!window.mw)
		wrong("no window: %s", strerror(errno));
	return window;
}

void window_free(struct window *window)
{
	int ret = ibv_dealloc_mw(window->mw);

	if (ret)
		wrong("window not deallocated: %s", strerror(ret));
}

/* As the man pages have it for a type of window. */
int post_bind(struct end *end, struct ibv_mw *mw, uint32_t rkey,
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
enum ibv_wc_status wait_bind(struct end *end, struct ibv_mw *mw, uint32_t rkey)
{
	struct ibv_wc wc = end_wait(end, "binder");

	if (wc.status == IBV_WC_SUCCESS) {
		if (wc.opcode != IBV_WC_BIND_MW)
			wrong("completion %d instead of a bind's", wc.opcode);
		mw->rkey = rkey;
	}
	return wc.status;
}

enum ibv_wc_status try_bind(struct end *end, struct ibv_mw *mw,
			    const struct ibv_mw_bind_info *info)
{
	uint32_t rkey = ibv_inc_rkey(mw->rkey);
	int ret = post_bind(end, mw, rkey, info);

	if (ret)
		wrong("bind is not posted: %s", strerror(ret));
	return wait_bind(end, mw, rkey);
}

void want(const char *whose, enum ibv_wc_status status,
	  enum ibv_wc_status wanted)
{
	if (status != wanted)
		wrong("the %s has '%s' instead of '%s'", whose,
		      ibv_wc_status_str(status), ibv_wc_status_str(wanted));
}

void window_bind(struct window *window, struct end *end, struct region *region,
		 size_t at, size_t length, int access)
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

enum ibv_wc_status invalidate(struct end *end, uint32_t rkey)
{
	struct ibv_send_wr wr = { .opcode = IBV_WR_LOCAL_INV,
				  .invalidate_rkey = rkey },
			   *bad;
	int ret = ibv_post_send(end->qp, &wr, &bad);

	if (ret)
		wrong("invalidate is not posted: %s", strerror(ret));
	return end_wait(end, "invalidator").status;
}

void window_unbind(struct window *window, struct end *end)
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
void transfer(struct stage *stage, struct pair *pair, struct window *window,
	      enum ibv_wr_opcode opcode, size_t at, size_t length)
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
void cover_words(struct stage *stage, struct pair *pair, struct window *window)
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
void cover(struct stage *stage, struct pair *pair, struct window *window,
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

void cover_all(struct stage *stage, struct pair *pair, struct window *window)
{
	cover(stage, pair, window, IBV_WR_RDMA_WRITE);
	cover(stage, pair, window, IBV_WR_RDMA_READ);
	cover_words(stage, pair, window);
}

/* Other queue pairs go on, with a window of their own on the same memory. */
void others_work(struct stage *stage)
{
	struct window window = window_alloc(stage);

	window_bind(&window, &stage->pair.far, &stage->far, PAGE - 3, PAGE,
		    REMOTE_ACCESS);
	transfer(stage, &stage->pair, &window, IBV_WR_RDMA_WRITE, 0, PAGE);
	window_free(&window);
}

void want_state(struct end *end, const char *whose, enum ibv_qp_state state)
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
void must_refuse(struct stage *stage, struct pair *pair,
		 enum ibv_wr_opcode opcode, uint64_t address, uint32_t rkey,
		 size_t length)
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

struct ibv_mr *same_memory(struct stage *stage, struct ibv_pd *pd, int access)
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

static const char *const memories[] = {
	[EXPLICIT] = "explicit",
	[SHIFTED] = "shifted",
	[IMPLICIT] = "implicit",
	[PINNED] = "pinned",
};

static size_t list_variants(const struct behaviour *behaviour,
			    struct test *tests)
{
	size_t nr = 0;

	for (size_t i = 0; i < 2 * COUNT(memories); i++) {
		enum ibv_mw_type type = i % 2 ? IBV_MW_TYPE_2 : IBV_MW_TYPE_1;
		enum memory memory = i / 2;
		struct variant *variant;
		char *name;

		if (!(behaviour->types & BIT(type)) ||
		    !(behaviour->memories & BIT(memory)))
			continue;
		variant = malloc(sizeof(*variant));
		if (!variant ||
		    asprintf(&name, "mw.%s.type%d.%s", behaviour->name,
			     (int)type, memories[memory]) < 0)
			wrong("no memory");
		*variant = (struct variant){ type, memory };
		tests[nr++] = (struct test){ name, behaviour->run, variant };
	}
	return nr;
}

void behaviours_add(const struct behaviour *behaviours, size_t nr)
{
	struct test *tests = calloc(nr * 2 * COUNT(memories), sizeof(*tests));
	size_t variants = 0;

	if (!tests)
		abort();
	for (size_t i = 0; i < nr; i++)
		variants += list_variants(&behaviours[i], tests + variants);
	tests_add(tests, variants);
}
