// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
// Copyright (c) 2026 The Twostep authors
/*
 * a memory window gives a peer the bytes it was bound to, in the ways it was
 * bound for, as long as it is bound; and nothing else.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "window.h"

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

static const struct behaviour behaviours[] = {
	{ "every_byte", every_byte, BOTH, ANY },
	{ "nothing_outside", nothing_outside, BOTH, ANY },
	{ "nothing_else", nothing_else, BOTH, ANY },
	{ "old_keys", old_keys, BOTH, ANY },
	{ "never_bound", never_bound, BOTH, ANY },
	{ "not_for_others", not_for_others, BOTH, ANY },
	{ "zero_based", zero_based, TYPE_2, ANY },
	{ "rebound", rebound, BOTH, ANY },
};

BEHAVIOURS(behaviours)
