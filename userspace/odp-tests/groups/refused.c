// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
// Copyright (c) 2026 The Twostep authors
/*
 * memory that is not there, or may not be used so, ends an operation with the
 * status that the IBTA names, on both sides; and nothing else ends, and nothing is written.
 *
 * The far region has a hole, a page that may only be read, and a page that may not be used at
 * all, each between pages that are fine.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "fabric.h"
#include "region.h"
#include "suite.h"

#define PAGES 16
/* Pages of the far region. */
#define HOLE 4
#define READ_ONLY 8
#define NO_ACCESS 12
#define SOME 100

/**
 * struct stage - the two sides
 * @fabric: the device
 * @pair: queue pairs
 * @near: pinned
 * @far: on demand, with its bad pages
 */
struct stage {
	struct fabric fabric;
	struct pair pair;
	struct region near, far;
};

static void spoil(struct region *region)
{
	if (munmap(region->bytes + HOLE * PAGE, PAGE) ||
	    mprotect(region->bytes + READ_ONLY * PAGE, PAGE, PROT_READ) ||
	    mprotect(region->bytes + NO_ACCESS * PAGE, PAGE, PROT_NONE))
		wrong("pages are not spoilt: %s", strerror(errno));
}

static void open_stage(struct stage *stage, int access)
{
	fabric_open_odp(&stage->fabric, IBV_QPT_RC);
	pair_make(&stage->pair, &stage->fabric, IBV_QPT_RC, IBV_MTU_1024,
		  false);
	region_make(&stage->near, &stage->fabric, PAGES * PAGE, ALL_ACCESS);
	region_make(&stage->far, &stage->fabric, PAGES * PAGE,
		    ALL_ACCESS | IBV_ACCESS_ON_DEMAND | access);
	spoil(&stage->far);
}

/* Every byte that can be looked at is as it was. */
static void check_far(const struct stage *stage)
{
	const struct region *far = &stage->far;

	for (size_t page = 0; page < PAGES; page++)
		if (page != HOLE && page != NO_ACCESS &&
		    memcmp(far->bytes + page * PAGE, far->want + page * PAGE,
			   PAGE))
			wrong("page %zu has other bytes", page);
}

static void post_rdma(struct stage *stage, struct end *end,
		      enum ibv_wr_opcode opcode, struct ibv_sge sge,
		      const struct region *remote, size_t at)
{
	struct ibv_send_wr wr = { .sg_list = &sge,
				  .num_sge = 1,
				  .opcode = opcode },
			   *bad;
	int ret;

	(void)stage;
	if (opcode == IBV_WR_ATOMIC_FETCH_AND_ADD) {
		wr.wr.atomic.remote_addr = remote->iova + at;
		wr.wr.atomic.rkey = remote->mr->rkey;
		wr.wr.atomic.compare_add = 1;
	} else {
		wr.wr.rdma.remote_addr = remote->iova + at;
		wr.wr.rdma.rkey = remote->mr->rkey;
	}
	ret = ibv_post_send(end->qp, &wr, &bad);
	if (ret)
		wrong("not posted: %s", strerror(ret));
}

static void want_status(struct end *end, const char *whose,
			enum ibv_wc_status status)
{
	struct ibv_wc wc = end_wait(end, whose);

	if (wc.status != status)
		wrong("the %s has '%s' instead of '%s'", whose,
		      ibv_wc_status_str(wc.status), ibv_wc_status_str(status));
}

/* Other queue pairs go on, with the same regions. */
static void others_work(struct stage *stage)
{
	struct ibv_sge sge = region_sge(&stage->near, 0, SOME);

	pair_destroy(&stage->pair);
	pair_make(&stage->pair, &stage->fabric, IBV_QPT_RC, IBV_MTU_1024,
		  false);
	post_rdma(stage, &stage->pair.near, IBV_WR_RDMA_WRITE, sge, &stage->far,
		  PAGE + 5);
	end_wait_success(&stage->pair.near, "sender behind");
	region_copied(&stage->far, PAGE + 5, &stage->near, 0, SOME);
	check_far(stage);
}

static void close_stage(struct stage *stage)
{
	pair_destroy(&stage->pair);
	region_destroy(&stage->near);
	region_destroy(&stage->far);
}

/* The near side posts OPCODE for some bytes around the start of PAGE_NR of the far region. */
static void remote_ends(enum ibv_wr_opcode opcode, size_t at,
			enum ibv_wc_status status)
{
	bool atomic = opcode == IBV_WR_ATOMIC_FETCH_AND_ADD;
	struct stage stage = {};

	open_stage(&stage, 0);
	post_rdma(&stage, &stage.pair.near, opcode,
		  region_sge(&stage.near, 64, atomic ? 8 : SOME), &stage.far,
		  at);
	want_status(&stage.pair.near, "requester", status);
	region_check(&stage.near);
	check_far(&stage);
	others_work(&stage);
	close_stage(&stage);
}

static void write_to_hole(const void *what)
{
	(void)what;
	remote_ends(IBV_WR_RDMA_WRITE, HOLE * PAGE + 10, IBV_WC_REM_ACCESS_ERR);
}

static void write_to_read_only(const void *what)
{
	(void)what;
	remote_ends(IBV_WR_RDMA_WRITE, READ_ONLY * PAGE, IBV_WC_REM_ACCESS_ERR);
}

static void write_to_no_access(const void *what)
{
	(void)what;
	remote_ends(IBV_WR_RDMA_WRITE, NO_ACCESS * PAGE, IBV_WC_REM_ACCESS_ERR);
}

static void read_from_hole(const void *what)
{
	(void)what;
	remote_ends(IBV_WR_RDMA_READ, HOLE * PAGE - 50, IBV_WC_REM_ACCESS_ERR);
}

static void read_from_no_access(const void *what)
{
	(void)what;
	remote_ends(IBV_WR_RDMA_READ, NO_ACCESS * PAGE, IBV_WC_REM_ACCESS_ERR);
}

static void atomic_on_hole(const void *what)
{
	(void)what;
	remote_ends(IBV_WR_ATOMIC_FETCH_AND_ADD, HOLE * PAGE + 8,
		    IBV_WC_REM_ACCESS_ERR);
}

static void atomic_on_read_only(const void *what)
{
	(void)what;
	remote_ends(IBV_WR_ATOMIC_FETCH_AND_ADD, READ_ONLY * PAGE,
		    IBV_WC_REM_ACCESS_ERR);
}

/* ibv_post_send() would refuse to post it. */
static void atomic_misaligned(const void *what)
{
	struct stage stage = {};
	struct ibv_qp_ex *ex;

	(void)what;
	open_stage(&stage, 0);
	ex = stage.pair.near.ex;
	ibv_wr_start(ex);
	ibv_wr_atomic_fetch_add(ex, stage.far.mr->rkey,
				stage.far.iova + PAGE + 4, 1);
	ibv_wr_set_sge(ex, stage.near.mr->lkey, stage.near.iova, 8);
	if (ibv_wr_complete(ex))
		skip(LIBRARY, "it refuses that itself");
	want_status(&stage.pair.near, "requester", IBV_WC_REM_INV_REQ_ERR);
	check_far(&stage);
	others_work(&stage);
	close_stage(&stage);
}

static void beyond_the_end(const void *what)
{
	(void)what;
	remote_ends(IBV_WR_RDMA_WRITE, PAGES * PAGE - SOME + 1,
		    IBV_WC_REM_ACCESS_ERR);
}

static void read_only_page_is_read(const void *what)
{
	struct stage stage = {};

	(void)what;
	open_stage(&stage, 0);
	post_rdma(&stage, &stage.pair.near, IBV_WR_RDMA_READ,
		  region_sge(&stage.near, 64, SOME), &stage.far,
		  READ_ONLY * PAGE + 3);
	end_wait_success(&stage.pair.near, "requester");
	region_copied(&stage.near, 64, &stage.far, READ_ONLY * PAGE + 3, SOME);
	region_check(&stage.near);
	check_far(&stage);
	close_stage(&stage);
}

/* The far side posts, with its own memory as the local one. */
static void local_ends(enum ibv_wr_opcode opcode, size_t at)
{
	struct stage stage = {};

	open_stage(&stage, 0);
	post_rdma(&stage, &stage.pair.far, opcode,
		  region_sge(&stage.far, at, SOME), &stage.near, 64);
	want_status(&stage.pair.far, "requester", IBV_WC_LOC_PROT_ERR);
	check_far(&stage);
	others_work(&stage);
	close_stage(&stage);
}

static void write_out_of_hole(const void *what)
{
	(void)what;
	local_ends(IBV_WR_RDMA_WRITE, HOLE * PAGE + 1);
}

static void read_into_hole(const void *what)
{
	(void)what;
	local_ends(IBV_WR_RDMA_READ, HOLE * PAGE + 1);
}

static void read_into_read_only(const void *what)
{
	(void)what;
	local_ends(IBV_WR_RDMA_READ, READ_ONLY * PAGE + 1);
}

static void receive_into(size_t at, size_t size, bool fails)
{
	struct stage stage = {};
	struct ibv_sge sge;

	open_stage(&stage, 0);
	sge = region_sge(&stage.far, at, size);
	post_receive(&stage.pair.far, &sge, 1);
	post_rdma(&stage, &stage.pair.near, IBV_WR_SEND,
		  region_sge(&stage.near, 64, SOME), &stage.far, 0);
	if (fails) {
		want_status(&stage.pair.near, "sender", IBV_WC_REM_OP_ERR);
		want_status(&stage.pair.far, "receiver", IBV_WC_LOC_PROT_ERR);
	} else {
		end_wait_success(&stage.pair.near, "sender");
		end_wait_success(&stage.pair.far, "receiver");
		region_copied(&stage.far, at, &stage.near, 64, SOME);
	}
	check_far(&stage);
	others_work(&stage);
	close_stage(&stage);
}

static void receive_into_hole(const void *what)
{
	(void)what;
	receive_into(HOLE * PAGE, PAGE, true);
}

static void receive_into_read_only(const void *what)
{
	(void)what;
	receive_into(READ_ONLY * PAGE, PAGE, true);
}

/* The message ends before the hole begins. */
static void buffer_may_end_in_a_hole(const void *what)
{
	(void)what;
	receive_into((HOLE - 1) * PAGE, 2 * PAGE, false);
}

static void flush(int type, enum ibv_wc_status status)
{
	struct stage stage = {};
	struct ibv_qp_ex *ex;

	open_stage(&stage,
		   IBV_ACCESS_FLUSH_GLOBAL | IBV_ACCESS_FLUSH_PERSISTENT);
	ex = stage.pair.near.ex;
	ibv_wr_start(ex);
	ibv_wr_flush(ex, stage.far.mr->rkey, stage.far.iova + PAGE, PAGE,
		     1U << type, IBV_FLUSH_RANGE);
	if (ibv_wr_complete(ex))
		wrong("no flush is posted");
	want_status(&stage.pair.near, "requester", status);
	check_far(&stage);
	close_stage(&stage);
}

static void flush_of_memory_is_not_persistent(const void *what)
{
	(void)what;
	flush(1, IBV_WC_REM_ACCESS_ERR);
}

static void flush_is_visible(const void *what)
{
	(void)what;
	flush(0, IBV_WC_SUCCESS);
}

/* Memory that nobody may write is registered for reading, and sent. */
static void read_only_memory_is_sent(const void *what)
{
	struct stage stage = {};
	struct region plain = { .size = PAGE };

	(void)what;
	open_stage(&stage, 0);
	plain.bytes = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	plain.want = malloc(PAGE);
	region_fill(&plain, 0, PAGE);
	mprotect(plain.bytes, PAGE, PROT_READ);
	plain.mr = ibv_reg_mr(stage.fabric.pd, plain.bytes, PAGE,
			      IBV_ACCESS_ON_DEMAND | IBV_ACCESS_REMOTE_READ);
	if (!plain.mr)
		wrong("read-only memory is not registered: %s",
		      strerror(errno));
	plain.iova = (uintptr_t)plain.bytes;
	post_rdma(&stage, &stage.pair.near, IBV_WR_RDMA_WRITE,
		  region_sge(&plain, 7, SOME), &stage.far, PAGE);
	end_wait_success(&stage.pair.near, "writer");
	region_copied(&stage.far, PAGE, &plain, 7, SOME);
	post_rdma(&stage, &stage.pair.far, IBV_WR_RDMA_READ,
		  region_sge(&stage.near, 7, SOME), &plain, 9);
	end_wait_success(&stage.pair.far, "reader");
	region_copied(&stage.near, 7, &plain, 9, SOME);
	check_far(&stage);
	region_check(&stage.near);
	region_check(&plain);
	ibv_dereg_mr(plain.mr);
	close_stage(&stage);
}

/* Memory that the kernel itself does not map is for nobody's device. */
static void secret_memory_is_refused(const void *what)
{
	struct stage stage = {};
	struct ibv_mr *plain;
	uint8_t *secret;
	int fd;

	(void)what;
	open_stage(&stage, 0);
	fd = syscall(SYS_memfd_secret, 0);
	if (fd < 0 || ftruncate(fd, PAGE))
		skip(KERNEL, "there is no secret memory: %s", strerror(errno));
	secret = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (secret == MAP_FAILED)
		wrong("no secret memory: %s", strerror(errno));
	memset(secret, 1, PAGE);
	plain = stage.far.mr;
	stage.far.mr = ibv_reg_mr(stage.fabric.pd, secret, PAGE,
				  ALL_ACCESS | IBV_ACCESS_ON_DEMAND);
	stage.far.iova = (uintptr_t)secret;
	if (stage.far.mr) {
		post_rdma(&stage, &stage.pair.near, IBV_WR_RDMA_READ,
			  region_sge(&stage.near, 64, SOME), &stage.far, 0);
		want_status(&stage.pair.near, "requester",
			    IBV_WC_REM_ACCESS_ERR);
		ibv_dereg_mr(stage.far.mr);
	}
	stage.far.mr = plain;
	stage.far.iova = (uintptr_t)stage.far.bytes;
	region_check(&stage.near);
	others_work(&stage);
	close_stage(&stage);
}

/* The address space as one region. */
static void implicit_has_the_same_rules(const void *what)
{
	struct stage stage = {};
	struct ibv_mr *all;
	uint32_t rkey;

	(void)what;
	open_stage(&stage, 0);
	need_implicit(&stage.fabric);
	all = ibv_reg_mr(stage.fabric.pd, NULL, SIZE_MAX,
			 ALL_ACCESS | IBV_ACCESS_ON_DEMAND);
	if (!all)
		wrong("the address space is not registered: %s",
		      strerror(errno));
	rkey = stage.far.mr->rkey;
	stage.far.mr->rkey = all->rkey;
	post_rdma(&stage, &stage.pair.near, IBV_WR_RDMA_WRITE,
		  region_sge(&stage.near, 64, SOME), &stage.far, 3 * PAGE - 9);
	end_wait_success(&stage.pair.near, "requester");
	region_copied(&stage.far, 3 * PAGE - 9, &stage.near, 64, SOME);
	check_far(&stage);
	post_rdma(&stage, &stage.pair.near, IBV_WR_RDMA_WRITE,
		  region_sge(&stage.near, 64, SOME), &stage.far, HOLE * PAGE);
	want_status(&stage.pair.near, "requester", IBV_WC_REM_ACCESS_ERR);
	others_work(&stage);
	stage.far.mr->rkey = rkey;
	if (ibv_dereg_mr(all))
		wrong("the address space is not deregistered");
	close_stage(&stage);
}

static const struct test tests[] = {
#define TEST(what) { "perm." #what, what, NULL }
	TEST(write_to_hole),
	TEST(write_to_read_only),
	TEST(write_to_no_access),
	TEST(read_from_hole),
	TEST(read_from_no_access),
	TEST(atomic_on_hole),
	TEST(atomic_on_read_only),
	TEST(atomic_misaligned),
	TEST(beyond_the_end),
	TEST(read_only_page_is_read),
	TEST(write_out_of_hole),
	TEST(read_into_hole),
	TEST(read_into_read_only),
	TEST(receive_into_hole),
	TEST(receive_into_read_only),
	TEST(buffer_may_end_in_a_hole),
	TEST(flush_of_memory_is_not_persistent),
	TEST(flush_is_visible),
	TEST(read_only_memory_is_sent),
	TEST(secret_memory_is_refused),
	TEST(implicit_has_the_same_rules),
};

TESTS(tests)
