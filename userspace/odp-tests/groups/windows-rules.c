// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
// Copyright (c) 2026 The Twostep authors
/*
 * who may bind a memory window to what, and who may take it away. What is
 * refused changes nothing, also in what others have.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "window.h"

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
	if (child < 0 || waitpid(child, &status, 0) != child)
		wrong("no child: %s", strerror(errno));
	child_ended(status);
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

static const struct behaviour behaviours[] = {
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
};

BEHAVIOURS(behaviours)
