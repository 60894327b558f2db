// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
// Copyright (c) 2026 The Twostep authors
/*
 * an on-demand paging MR that is registered anew is what it is told to be, and not
 * any more what it was.
 *
 * A target is an MR and the memory that it names at the moment. ibv_rereg_mr(3) may change the
 * keys: what is reached is always asked of the MR. The far side of a pair owns the target, the
 * near side reaches it; a refusal ends a pair, so each has one of its own.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "fabric.h"
#include "region.h"
#include "options.h"
#include "suite.h"

#define SIZE (16 * PAGE)
#define SOME 5000
/* How often the target moves, and messages under which it does. */
#define MOVES 60
#define MESSAGES 100

#define TRANSLATION IBV_REREG_MR_CHANGE_TRANSLATION
#define DOMAIN IBV_REREG_MR_CHANGE_PD
#define ACCESS IBV_REREG_MR_CHANGE_ACCESS

#define ON_DEMAND (ALL_ACCESS | IBV_ACCESS_ON_DEMAND)

/**
 * struct stage - two sides
 * @fabric: the device
 * @foreign: the same with another protection domain
 * @near: pinned
 * @memories: what the target may name; each has a registration of its own, which stays
 * @mr: the target
 */
struct stage {
	struct fabric fabric, foreign;
	struct region near, memories[2];
	struct ibv_mr *mr;
};

static void open_stage(struct stage *stage)
{
	struct region *first = &stage->memories[0];

	*stage = (struct stage){};
	fabric_open_odp(&stage->fabric, IBV_QPT_RC);
	stage->foreign = stage->fabric;
	stage->foreign.pd = ibv_alloc_pd(stage->fabric.context);
	if (!stage->foreign.pd)
		wrong("no protection domain: %s", strerror(errno));
	region_make(&stage->near, &stage->fabric, SIZE, ALL_ACCESS);
	for (int i = 0; i < 2; i++)
		region_make(&stage->memories[i], &stage->fabric, SIZE,
			    ON_DEMAND);
	stage->mr = ibv_reg_mr(stage->fabric.pd, first->bytes, first->size,
			       ON_DEMAND);
	if (!stage->mr)
		wrong("not registered: %s", strerror(errno));
	if (ibv_rereg_mr(stage->mr, ACCESS, NULL, NULL, 0, ON_DEMAND) ==
		    IBV_REREG_MR_ERR_CMD &&
	    errno == EOPNOTSUPP)
		skip(LIBRARY, "it does not register anew");
}

static void close_stage(struct stage *stage)
{
	int ret = ibv_dereg_mr(stage->mr);

	if (ret)
		wrong("not deregistered: %s", strerror(ret));
	for (int i = 0; i < 2; i++)
		region_destroy(&stage->memories[i]);
	region_destroy(&stage->near);
	if (ibv_dealloc_pd(stage->foreign.pd))
		wrong("the other protection domain is still in use");
}

static void want_rereg(struct stage *stage, int flags, struct ibv_pd *pd,
		       void *addr, size_t length, int access, int wanted)
{
	int ret = ibv_rereg_mr(stage->mr, flags, pd, addr, length, access);

	if (ret != wanted)
		wrong("registering anew: %d (%s) instead of %d", ret,
		      strerror(errno), wanted);
}

static void want(const char *whose, enum ibv_wc_status status,
		 enum ibv_wc_status wanted)
{
	if (status != wanted)
		wrong("the %s has '%s' instead of '%s'", whose,
		      ibv_wc_status_str(status), ibv_wc_status_str(wanted));
}

/*
 * Reach ADDRESS by a new pair in a protection domain. Writes are inline, so that the near
 * memory may be of another one.
 */
static enum ibv_wc_status reach(struct stage *stage,
				const struct fabric *fabric,
				enum ibv_wr_opcode opcode, uint64_t address,
				uint32_t rkey, size_t near_at, size_t length)
{
	struct ibv_sge sge = region_sge(&stage->near, near_at, length);
	struct ibv_send_wr wr = { .sg_list = &sge,
				  .num_sge = 1,
				  .opcode = opcode },
			   *bad;
	struct pair pair;
	struct ibv_wc wc;
	int ret;

	if (opcode == IBV_WR_RDMA_WRITE && length <= MAX_INLINE)
		wr.send_flags = IBV_SEND_INLINE;
	if (opcode == IBV_WR_ATOMIC_FETCH_AND_ADD) {
		wr.wr.atomic.remote_addr = address;
		wr.wr.atomic.rkey = rkey;
	} else {
		wr.wr.rdma.remote_addr = address;
		wr.wr.rdma.rkey = rkey;
	}
	pair_make(&pair, fabric, IBV_QPT_RC, IBV_MTU_1024, false);
	ret = ibv_post_send(pair.near.qp, &wr, &bad);
	if (ret)
		wrong("not posted: %s", strerror(ret));
	wc = end_wait(&pair.near, "requester");
	pair_destroy(&pair);
	return wc.status;
}

static void check(const struct stage *stage)
{
	region_check(&stage->near);
	for (int i = 0; i < 2; i++)
		region_check(&stage->memories[i]);
}

/* The target gives what lies AT in MEMORY, cold, in both directions. */
static void must_reach(struct stage *stage, struct region *memory, size_t at,
		       size_t length)
{
	uint64_t address = (uintptr_t)memory->bytes + at;
	size_t near_at = below(SIZE - length + 1);

	region_fill(&stage->near, near_at, length);
	region_prepare(memory, COLD);
	want("writer",
	     reach(stage, &stage->fabric, IBV_WR_RDMA_WRITE, address,
		   stage->mr->rkey, near_at, length),
	     IBV_WC_SUCCESS);
	region_copied(memory, at, &stage->near, near_at, length);
	check(stage);
	region_fill(memory, at, length);
	region_prepare(memory, COLD);
	want("reader",
	     reach(stage, &stage->fabric, IBV_WR_RDMA_READ, address,
		   stage->mr->rkey, near_at, length),
	     IBV_WC_SUCCESS);
	region_copied(&stage->near, near_at, memory, at, length);
	check(stage);
}

static void must_refuse(struct stage *stage, const struct fabric *fabric,
			enum ibv_wr_opcode opcode, const uint8_t *byte,
			uint32_t rkey)
{
	want("requester",
	     reach(stage, fabric, opcode, (uintptr_t)byte, rkey, 64, 8),
	     IBV_WC_REM_ACCESS_ERR);
	check(stage);
}

/* Rights go and come; the range, and the keys that a local access needs, do not. */
static void changes_access(const void *what)
{
	struct region *memory;
	struct stage stage;

	(void)what;
	open_stage(&stage);
	memory = &stage.memories[0];
	for (int i = 0; i < 10; i++) {
		want_rereg(&stage, ACCESS, NULL, NULL, 0,
			   IBV_ACCESS_ON_DEMAND | IBV_ACCESS_LOCAL_WRITE |
				   IBV_ACCESS_REMOTE_READ,
			   0);
		must_refuse(&stage, &stage.fabric, IBV_WR_RDMA_WRITE,
			    memory->bytes, stage.mr->rkey);
		must_refuse(&stage, &stage.fabric, IBV_WR_ATOMIC_FETCH_AND_ADD,
			    memory->bytes, stage.mr->rkey);
		want("reader",
		     reach(&stage, &stage.fabric, IBV_WR_RDMA_READ,
			   (uintptr_t)memory->bytes + i, stage.mr->rkey, i,
			   SOME),
		     IBV_WC_SUCCESS);
		region_copied(&stage.near, i, memory, i, SOME);
		check(&stage);
		want_rereg(&stage, ACCESS, NULL, NULL, 0,
			   IBV_ACCESS_ON_DEMAND | IBV_ACCESS_LOCAL_WRITE |
				   IBV_ACCESS_REMOTE_WRITE,
			   0);
		must_refuse(&stage, &stage.fabric, IBV_WR_RDMA_READ,
			    memory->bytes, stage.mr->rkey);
		want_rereg(&stage, ACCESS, NULL, NULL, 0, ON_DEMAND, 0);
		must_reach(&stage, memory, i, SOME);
	}
	close_stage(&stage);
}

/* What it was not registered to write, it cannot come to write where it is. */
static void stays_read_only(const void *what)
{
	struct region *memory;
	struct stage stage;

	(void)what;
	open_stage(&stage);
	memory = &stage.memories[0];
	want_rereg(&stage, TRANSLATION | ACCESS, NULL, memory->bytes, SIZE,
		   IBV_ACCESS_ON_DEMAND | IBV_ACCESS_REMOTE_READ, 0);
	must_refuse(&stage, &stage.fabric, IBV_WR_RDMA_WRITE, memory->bytes,
		    stage.mr->rkey);
	want_rereg(&stage, ACCESS, NULL, NULL, 0, ON_DEMAND,
		   IBV_REREG_MR_ERR_CMD);
	close_stage(&stage);
}

static void changes_domain(const void *what)
{
	struct region *memory;
	struct stage stage;

	(void)what;
	open_stage(&stage);
	memory = &stage.memories[0];
	for (int i = 0; i < 10; i++) {
		want_rereg(&stage, DOMAIN, stage.foreign.pd, NULL, 0, 0, 0);
		if (stage.mr->pd != stage.foreign.pd)
			wrong("the MR is not of its new domain");
		must_refuse(&stage, &stage.fabric, IBV_WR_RDMA_WRITE,
			    memory->bytes, stage.mr->rkey);
		region_fill(&stage.near, 64, 8);
		want("writer",
		     reach(&stage, &stage.foreign, IBV_WR_RDMA_WRITE,
			   (uintptr_t)memory->bytes + i, stage.mr->rkey, 64, 8),
		     IBV_WC_SUCCESS);
		region_copied(memory, i, &stage.near, 64, 8);
		check(&stage);
		want_rereg(&stage, DOMAIN, stage.fabric.pd, NULL, 0, 0, 0);
		must_refuse(&stage, &stage.foreign, IBV_WR_RDMA_WRITE,
			    memory->bytes, stage.mr->rkey);
		must_reach(&stage, memory, i, SOME);
	}
	close_stage(&stage);
}

/* To any part of either memory, and never anything but that. */
static void changes_translation(const void *what)
{
	struct stage stage;

	(void)what;
	open_stage(&stage);
	for (size_t i = 0; i < (options.count ?: MOVES); i++) {
		struct region *memory = &stage.memories[below(2)];
		size_t length = 1 + below(below(2) ? SIZE - 2 : SOME);
		size_t at = 1 + below(SIZE - length - 1);
		uint32_t old = stage.mr->rkey;
		uint8_t *bytes = memory->bytes + at;

		snprintf(doing, sizeof(doing), "%zu bytes at %zu of memory %d",
			 length, at, memory == &stage.memories[1]);
		want_rereg(&stage, TRANSLATION, NULL, bytes, length, 0, 0);
		if (stage.mr->addr != bytes || stage.mr->length != length)
			wrong("the MR has %zu bytes at %p", stage.mr->length,
			      stage.mr->addr);
		must_reach(&stage, memory, at, length);
		must_refuse(&stage, &stage.fabric, IBV_WR_RDMA_READ, bytes - 1,
			    stage.mr->rkey);
		must_refuse(&stage, &stage.fabric, IBV_WR_RDMA_WRITE,
			    bytes + length, stage.mr->rkey);
		must_refuse(&stage, &stage.fabric, IBV_WR_RDMA_WRITE,
			    stage.memories[memory == stage.memories].bytes,
			    stage.mr->rkey);
		if (old != stage.mr->rkey)
			must_refuse(&stage, &stage.fabric, IBV_WR_RDMA_WRITE,
				    bytes, old);
	}
	*doing = 0;
	close_stage(&stage);
}

/* Everything in one call, and back. */
static void changes_all(const void *what)
{
	struct region *memory;
	struct stage stage;
	uint32_t old;

	(void)what;
	open_stage(&stage);
	for (int i = 0; i < 10; i++) {
		memory = &stage.memories[(i + 1) % 2];
		old = stage.mr->rkey;
		want_rereg(&stage, TRANSLATION | DOMAIN | ACCESS,
			   stage.foreign.pd, memory->bytes + i, SIZE / 2,
			   IBV_ACCESS_ON_DEMAND | IBV_ACCESS_LOCAL_WRITE |
				   IBV_ACCESS_REMOTE_WRITE,
			   0);
		if (old != stage.mr->rkey)
			must_refuse(&stage, &stage.fabric, IBV_WR_RDMA_WRITE,
				    memory->bytes + i, old);
		must_refuse(&stage, &stage.fabric, IBV_WR_RDMA_WRITE,
			    memory->bytes + i, stage.mr->rkey);
		/* Refused before anybody looks at its local memory. */
		must_refuse(&stage, &stage.foreign, IBV_WR_RDMA_READ,
			    memory->bytes + i, stage.mr->rkey);
		region_fill(&stage.near, i, 100);
		want("writer",
		     reach(&stage, &stage.foreign, IBV_WR_RDMA_WRITE,
			   (uintptr_t)memory->bytes + PAGE - i, stage.mr->rkey,
			   i, 100),
		     IBV_WC_SUCCESS);
		region_copied(memory, PAGE - i, &stage.near, i, 100);
		check(&stage);
		want_rereg(&stage, TRANSLATION | DOMAIN | ACCESS,
			   stage.fabric.pd, memory->bytes, SIZE, ON_DEMAND, 0);
		must_reach(&stage, memory, 0, SIZE);
	}
	close_stage(&stage);
}

/* From a range to a longer one over memory that is not there yet, as far as it is. */
static void grows_over_a_hole(const void *what)
{
	struct region *memory;
	struct stage stage;
	uint8_t *hole;

	(void)what;
	open_stage(&stage);
	memory = &stage.memories[0];
	hole = mmap(NULL, 4 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		    0);
	if (hole == MAP_FAILED)
		wrong("no memory: %s", strerror(errno));
	want_rereg(&stage, TRANSLATION, NULL, hole, 4 * PAGE, 0, 0);
	must_refuse(&stage, &stage.fabric, IBV_WR_RDMA_WRITE, hole + PAGE,
		    stage.mr->rkey);
	if (mprotect(hole, 4 * PAGE, PROT_READ | PROT_WRITE))
		wrong("mprotect: %s", strerror(errno));
	region_fill(&stage.near, 64, 8);
	want("writer",
	     reach(&stage, &stage.fabric, IBV_WR_RDMA_WRITE,
		   (uintptr_t)hole + PAGE - 4, stage.mr->rkey, 64, 8),
	     IBV_WC_SUCCESS);
	if (memcmp(hole + PAGE - 4, stage.near.want + 64, 8))
		wrong("other bytes in what was a hole");
	want_rereg(&stage, TRANSLATION, NULL, memory->bytes, SIZE, 0, 0);
	must_refuse(&stage, &stage.fabric, IBV_WR_RDMA_WRITE, hole,
		    stage.mr->rkey);
	munmap(hole, 4 * PAGE);
	must_reach(&stage, memory, 0, SIZE);
	close_stage(&stage);
}

/* The address space gets a range; libverbs has no way back: it wants an address. */
static void leaves_the_address_space(const void *what)
{
	struct stage stage;

	(void)what;
	open_stage(&stage);
	need_implicit(&stage.fabric);
	if (ibv_dereg_mr(stage.mr))
		wrong("not deregistered");
	stage.mr = ibv_reg_mr(stage.fabric.pd, NULL, SIZE_MAX, ON_DEMAND);
	if (!stage.mr)
		wrong("the address space is not registered: %s",
		      strerror(errno));
	for (int i = 0; i < 2; i++)
		must_reach(&stage, &stage.memories[i], 5, SOME);
	want_rereg(&stage, TRANSLATION, NULL, stage.memories[1].bytes, SIZE, 0,
		   0);
	must_reach(&stage, &stage.memories[1], 5, SOME);
	must_refuse(&stage, &stage.fabric, IBV_WR_RDMA_WRITE,
		    stage.memories[0].bytes, stage.mr->rkey);
	want_rereg(&stage, TRANSLATION, NULL, NULL, SIZE_MAX, 0,
		   IBV_REREG_MR_ERR_INPUT);
	must_reach(&stage, &stage.memories[1], 5, SOME);
	close_stage(&stage);
}

/* IBV_REREG_MR_ERR_INPUT: the MR is what it was. */
static void bad_input_changes_nothing(const void *what)
{
	static const struct {
		const char *name;
		int flags;
		bool addr;
		size_t length;
		int access;
	} inputs[] = {
		{ "a flag that there is not", IBV_REREG_MR_FLAGS_SUPPORTED + 1,
		  false, 0, 0 },
		{ "no address", TRANSLATION, false, SIZE, 0 },
		{ "no length", TRANSLATION, true, 0, 0 },
		{ "rights that are not to change", TRANSLATION, true, SIZE,
		  ON_DEMAND },
		{ "rights, and nothing to change", 0, false, 0, ON_DEMAND },
	};
	struct stage stage;
	uint32_t rkey;

	(void)what;
	open_stage(&stage);
	for (size_t i = 0; i < COUNT(inputs); i++) {
		snprintf(doing, sizeof(doing), "%s", inputs[i].name);
		rkey = stage.mr->rkey;
		errno = 0;
		want_rereg(&stage, inputs[i].flags, NULL,
			   inputs[i].addr ? stage.memories[1].bytes : NULL,
			   inputs[i].length, inputs[i].access,
			   IBV_REREG_MR_ERR_INPUT);
		if (errno != EINVAL)
			wrong("errno is %s", strerror(errno));
		if (stage.mr->rkey != rkey ||
		    stage.mr->addr != stage.memories[0].bytes ||
		    stage.mr->length != SIZE)
			wrong("the MR has changed");
		must_reach(&stage, &stage.memories[0], 0, SIZE);
		must_refuse(&stage, &stage.fabric, IBV_WR_RDMA_WRITE,
			    stage.memories[1].bytes, rkey);
	}
	*doing = 0;
	close_stage(&stage);
}

/* IBV_REREG_MR_ERR_CMD: all that may be done with the MR is to deregister it, and that works. */
static void bad_command(int flags, const void *addr, size_t length, int access)
{
	struct stage stage;

	open_stage(&stage);
	want_rereg(&stage, flags, NULL, (void *)addr, length, access,
		   IBV_REREG_MR_ERR_CMD);
	check(&stage);
	close_stage(&stage);
}

static void nothing_to_change(const void *what)
{
	(void)what;
	bad_command(0, NULL, 0, 0);
}

static void range_that_wraps(const void *what)
{
	(void)what;
	bad_command(TRANSLATION, (void *)PAGE, SIZE_MAX - PAGE / 2, 0);
}

static void remote_rights_without_local(const void *what)
{
	(void)what;
	bad_command(ACCESS, NULL, 0,
		    IBV_ACCESS_ON_DEMAND | IBV_ACCESS_REMOTE_WRITE);
}

/* Where it is, it stays on demand. */
static void on_demand_for_good(const void *what)
{
	(void)what;
	bad_command(ACCESS, NULL, 0, ALL_ACCESS);
}

/* While it moves, it may become another. */
static void is_pinned_elsewhere(const void *what)
{
	struct stage stage;

	(void)what;
	open_stage(&stage);
	want_rereg(&stage, TRANSLATION | ACCESS, NULL, stage.memories[1].bytes,
		   SIZE, ALL_ACCESS, 0);
	want("writer",
	     reach(&stage, &stage.fabric, IBV_WR_RDMA_WRITE,
		   (uintptr_t)stage.memories[1].bytes + 9, stage.mr->rkey, 0,
		   SOME),
	     IBV_WC_SUCCESS);
	region_copied(&stage.memories[1], 9, &stage.near, 0, SOME);
	check(&stage);
	close_stage(&stage);
}

/* IBTA 10.6.7.2.6: a window keeps its MR as it is. */
static void stays_below_a_window(int flags)
{
	struct ibv_mw_bind bind = {};
	struct stage stage;
	struct ibv_mw *mw;
	struct pair pair;

	open_stage(&stage);
	pair_make(&pair, &stage.fabric, IBV_QPT_RC, IBV_MTU_1024, false);
	mw = ibv_alloc_mw(stage.fabric.pd, IBV_MW_TYPE_1);
	if (!mw)
		wrong("no window: %s", strerror(errno));
	bind.bind_info = (struct ibv_mw_bind_info){
		.mr = stage.mr,
		.addr = (uintptr_t)stage.memories[0].bytes,
		.length = SIZE,
		.mw_access_flags = IBV_ACCESS_REMOTE_WRITE,
	};
	if (ibv_bind_mw(pair.far.qp, mw, &bind))
		wrong("bind is not posted");
	end_wait_success(&pair.far, "binder");
	want_rereg(&stage, flags, flags & DOMAIN ? stage.foreign.pd : NULL,
		   flags & TRANSLATION ? stage.memories[1].bytes : NULL,
		   flags & TRANSLATION ? SIZE : 0,
		   flags & ACCESS ? IBV_ACCESS_ON_DEMAND : 0,
		   IBV_REREG_MR_ERR_CMD);
	region_fill(&stage.near, 0, SOME);
	want("writer",
	     reach(&stage, &stage.fabric, IBV_WR_RDMA_WRITE,
		   (uintptr_t)stage.memories[0].bytes, mw->rkey, 0, SOME),
	     IBV_WC_SUCCESS);
	region_copied(&stage.memories[0], 0, &stage.near, 0, SOME);
	check(&stage);
	if (ibv_dealloc_mw(mw))
		wrong("window not deallocated");
	pair_destroy(&pair);
	close_stage(&stage);
}

static void stays_where_windows_are(const void *what)
{
	(void)what;
	stays_below_a_window(TRANSLATION);
}

static void stays_in_the_domain_of_windows(const void *what)
{
	(void)what;
	stays_below_a_window(DOMAIN);
}

static void keeps_the_rights_of_windows(const void *what)
{
	(void)what;
	stays_below_a_window(ACCESS);
}

/**
 * struct mover - a thread that registers anew
 * @stage: its target
 * @ends: told to
 * @moved: how often
 */
struct mover {
	struct stage *stage;
	bool ends;
	unsigned long moved;
};

static void *mover(void *arg)
{
	struct mover *mover = arg;
	struct region *memories = mover->stage->memories;

	while (!__atomic_load_n(&mover->ends, __ATOMIC_ACQUIRE)) {
		want_rereg(mover->stage, TRANSLATION, NULL,
			   memories[mover->moved % 2].bytes,
			   PAGE * (1 + mover->moved % (SIZE / PAGE)), 0, 0);
		__atomic_fetch_add(&mover->moved, 1, __ATOMIC_RELAXED);
	}
	return NULL;
}

/*
 * The target goes to and fro below messages that know nothing of it, and below those that name
 * it by keys that it may not have any more.
 */
static void moves_under_traffic(const void *what)
{
	size_t messages = options.count ?: MESSAGES;
	struct mover other = {};
	enum ibv_wc_status status;
	struct stage stage;
	pthread_t thread;

	(void)what;
	open_stage(&stage);
	other.stage = &stage;
	if (pthread_create(&thread, NULL, mover, &other))
		wrong("no thread");
	for (size_t i = 0; i < messages ||
			   __atomic_load_n(&other.moved, __ATOMIC_RELAXED) < 50;
	     i++) {
		struct region *memory = &stage.memories[below(2)];
		size_t at = below(SIZE - SOME);
		uint32_t rkey =
			__atomic_load_n(&stage.mr->rkey, __ATOMIC_RELAXED);

		snprintf(doing, sizeof(doing), "message %zu", i);
		region_fill(&stage.near, 0, SOME);
		want("writer",
		     reach(&stage, &stage.fabric, IBV_WR_RDMA_WRITE,
			   memory->iova + at, memory->mr->rkey, 0, SOME),
		     IBV_WC_SUCCESS);
		region_copied(memory, at, &stage.near, 0, SOME);
		check(&stage);
		/* The same bytes again, by the target: there or refused, no byte changes. */
		status = reach(&stage, &stage.fabric, IBV_WR_RDMA_WRITE,
			       memory->iova + at, rkey, 0, SOME);
		if (status != IBV_WC_SUCCESS)
			want("writer", status, IBV_WC_REM_ACCESS_ERR);
		check(&stage);
	}
	__atomic_store_n(&other.ends, true, __ATOMIC_RELEASE);
	pthread_join(thread, NULL);
	*doing = 0;
	printf("# moved %lu times\n", other.moved);
	close_stage(&stage);
}

static const struct test tests[] = {
#define TEST(what) { "reg.rereg." #what, what, NULL }
	TEST(changes_access),
	TEST(stays_read_only),
	TEST(changes_domain),
	TEST(changes_translation),
	TEST(changes_all),
	TEST(grows_over_a_hole),
	TEST(leaves_the_address_space),
	TEST(bad_input_changes_nothing),
	TEST(nothing_to_change),
	TEST(range_that_wraps),
	TEST(remote_rights_without_local),
	TEST(on_demand_for_good),
	TEST(is_pinned_elsewhere),
	TEST(stays_where_windows_are),
	TEST(stays_in_the_domain_of_windows),
	TEST(keeps_the_rights_of_windows),
	TEST(moves_under_traffic),
};

TESTS(tests)
