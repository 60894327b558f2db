// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
// Copyright (c) 2026 The Twostep authors
/*
 * what ibv_advise_mr(3) brings in is there when a message comes, and only that; what
 * it cannot do it says, with the error of the man page, and does nothing of it.
 *
 * That pages are there for the device is seen by the next message: it needs no fault.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "fabric.h"
#include "place.h"
#include "region.h"
#include "suite.h"

#define PAGES 64UL
#define SIZE (PAGES * PAGE)
/* A part that begins and ends inside pages: it touches pages 3 to 19. */
#define PART_AT (3 * PAGE + 100)
#define PART_LENGTH (16 * PAGE + 200)
#define PART_PAGES 17

#define LARGE (256UL << 20)
#define DEADLINE_SECONDS 30

/**
 * struct stage - what a test uses
 * @fabric: the device
 * @pair: queue pairs
 * @near: pinned
 * @far: on demand, nothing of it with the device
 */
struct stage {
	struct fabric fabric;
	struct pair pair;
	struct region near, far;
};

static uint64_t counter(const char *name)
{
	uint64_t value;

	if (!hw_counter(name, &value))
		skip(place.software ? KERNEL : DEVICE, "no counter %s", name);
	return value;
}

static int advise(const struct stage *stage, enum ibv_advise_mr_advice advice,
		  uint32_t flags, struct ibv_sge *sges, uint32_t nr)
{
	return ibv_advise_mr(stage->fabric.pd, advice, flags, sges, nr);
}

static void want(int ret, int error)
{
	if (ret != error)
		wrong("the advice has '%s' instead of '%s'", strerror(ret),
		      strerror(error));
}

static void open_stage(struct stage *stage)
{
	int ret;

	fabric_open_odp(&stage->fabric, IBV_QPT_RC);
	pair_make(&stage->pair, &stage->fabric, IBV_QPT_RC, IBV_MTU_4096,
		  false);
	region_make(&stage->near, &stage->fabric, SIZE, ALL_ACCESS);
	region_make(&stage->far, &stage->fabric, SIZE,
		    ALL_ACCESS | IBV_ACCESS_ON_DEMAND);
	ret = advise(stage, IBV_ADVISE_MR_ADVICE_PREFETCH_NO_FAULT,
		     IBV_ADVISE_MR_FLAG_FLUSH,
		     &(struct ibv_sge){ stage->far.iova, 1,
					stage->far.mr->lkey },
		     1);
	if (ret == EOPNOTSUPP)
		skip(LIBRARY, "the provider has no ibv_advise_mr()");
	region_prepare(&stage->far, COLD);
}

static void close_stage(struct stage *stage)
{
	pair_destroy(&stage->pair);
	region_destroy(&stage->near);
	region_destroy(&stage->far);
}

/* Move bytes of the far region; returns how many faults that took. */
static uint64_t faults_of(struct stage *stage, enum ibv_wr_opcode opcode,
			  size_t at, size_t length)
{
	struct region *near = &stage->near, *far = &stage->far;
	struct ibv_sge sge = region_sge(near, at, length);
	struct ibv_send_wr wr = { .sg_list = &sge,
				  .num_sge = 1,
				  .opcode = opcode },
			   *bad;
	uint64_t before = counter("odp_faults");

	wr.wr.rdma.remote_addr = far->iova + at;
	wr.wr.rdma.rkey = far->mr->rkey;
	if (ibv_post_send(stage->pair.near.qp, &wr, &bad))
		wrong("not posted");
	end_wait_success(&stage->pair.near, "requester");
	if (opcode == IBV_WR_RDMA_READ)
		region_copied(near, at, far, at, length);
	else
		region_copied(far, at, near, at, length);
	region_check(near);
	region_check(far);
	return counter("odp_faults") - before;
}

/* How many pages of the process' memory are there. */
static size_t resident(const struct region *region)
{
	unsigned char *pages = calloc(1, region->size / PAGE);
	size_t nr = 0;

	if (!pages || mincore(region->bytes, region->size, pages))
		wrong("mincore: %s", strerror(errno));
	for (size_t i = 0; i < region->size / PAGE; i++)
		nr += pages[i] & 1;
	free(pages);
	return nr;
}

/* What is prefetched needs no fault, what is not does: the part, and the page behind it. */
static void brings_in(enum ibv_advise_mr_advice advice,
		      enum ibv_wr_opcode opcode, enum presence presence)
{
	struct stage stage = {};
	struct ibv_sge sge;
	uint64_t before, pages;

	open_stage(&stage);
	region_prepare(&stage.far, presence);
	before = counter("odp_page_prefetch");
	sge = region_sge(&stage.far, PART_AT, PART_LENGTH);
	want(advise(&stage, advice, IBV_ADVISE_MR_FLAG_FLUSH, &sge, 1), 0);
	pages = counter("odp_page_prefetch") - before;
	if (pages != PART_PAGES)
		wrong("%lu pages were prefetched instead of %d", pages,
		      PART_PAGES);
	if (presence == EMPTY && resident(&stage.far) != PART_PAGES)
		wrong("the process has %zu pages instead of %d",
		      resident(&stage.far), PART_PAGES);
	if (faults_of(&stage, opcode, PART_AT, PART_LENGTH))
		wrong("what was prefetched needed a fault");
	if (!faults_of(&stage, opcode, 40 * PAGE, PAGE))
		wrong("what was not prefetched needed no fault");
	close_stage(&stage);
}

static void for_reading(const void *what)
{
	(void)what;
	brings_in(IBV_ADVISE_MR_ADVICE_PREFETCH, IBV_WR_RDMA_READ, COLD);
}

static void for_writing(const void *what)
{
	(void)what;
	brings_in(IBV_ADVISE_MR_ADVICE_PREFETCH_WRITE, IBV_WR_RDMA_WRITE, COLD);
}

static void for_writing_untouched(const void *what)
{
	(void)what;
	brings_in(IBV_ADVISE_MR_ADVICE_PREFETCH_WRITE, IBV_WR_RDMA_WRITE,
		  EMPTY);
}

/* The page of zeros, of which there is one, is not for writing. */
static void for_reading_is_not_for_writing(const void *what)
{
	struct stage stage = {};
	struct ibv_sge sge;

	(void)what;
	open_stage(&stage);
	region_prepare(&stage.far, EMPTY);
	sge = region_sge(&stage.far, PART_AT, PART_LENGTH);
	want(advise(&stage, IBV_ADVISE_MR_ADVICE_PREFETCH,
		    IBV_ADVISE_MR_FLAG_FLUSH, &sge, 1),
	     0);
	if (faults_of(&stage, IBV_WR_RDMA_READ, PART_AT, PART_LENGTH))
		wrong("what was prefetched needed a fault");
	if (!faults_of(&stage, IBV_WR_RDMA_WRITE, PART_AT, PART_LENGTH))
		wrong("pages prefetched for reading were written without a fault");
	close_stage(&stage);
}

/* Every other page of the process is there; those come, the others stay away. */
static void no_fault(const void *what)
{
	struct stage stage = {};
	struct ibv_sge sge;
	uint64_t before, pages;

	(void)what;
	open_stage(&stage);
	for (size_t page = 0; page < PAGES; page += 2) {
		uint8_t *there = stage.far.bytes + page * PAGE;

		if (madvise(there, PAGE, MADV_DONTNEED))
			wrong("madvise: %s", strerror(errno));
		memset(stage.far.want + page * PAGE, 0, PAGE);
	}
	before = counter("odp_page_prefetch");
	sge = region_sge(&stage.far, 0, SIZE);
	want(advise(&stage, IBV_ADVISE_MR_ADVICE_PREFETCH_NO_FAULT,
		    IBV_ADVISE_MR_FLAG_FLUSH, &sge, 1),
	     0);
	pages = counter("odp_page_prefetch") - before;
	if (pages != PAGES / 2 || resident(&stage.far) != PAGES / 2)
		wrong("%lu pages came and the process has %zu, instead of %lu",
		      pages, resident(&stage.far), PAGES / 2);
	if (faults_of(&stage, IBV_WR_RDMA_READ, 5 * PAGE, PAGE))
		wrong("a page that was there needed a fault");
	if (!faults_of(&stage, IBV_WR_RDMA_READ, 6 * PAGE, PAGE))
		wrong("a page that was not there needed no fault");
	close_stage(&stage);
}

static void wait_for_pages(uint64_t target)
{
	struct timespec now, end;

	clock_gettime(CLOCK_MONOTONIC, &end);
	end.tv_sec += DEADLINE_SECONDS;
	while (counter("odp_page_prefetch") < target) {
		clock_gettime(CLOCK_MONOTONIC, &now);
		if (now.tv_sec > end.tv_sec)
			wrong("the pages did not come within %d s",
			      DEADLINE_SECONDS);
		sched_yield();
	}
}

static void in_the_background(const void *what)
{
	struct stage stage = {};
	struct ibv_sge sge;
	uint64_t before;

	(void)what;
	open_stage(&stage);
	before = counter("odp_page_prefetch");
	sge = region_sge(&stage.far, PART_AT, PART_LENGTH);
	want(advise(&stage, IBV_ADVISE_MR_ADVICE_PREFETCH_WRITE, 0, &sge, 1),
	     0);
	wait_for_pages(before + PART_PAGES);
	if (faults_of(&stage, IBV_WR_RDMA_WRITE, PART_AT, PART_LENGTH))
		wrong("what was prefetched needed a fault");
	close_stage(&stage);
}

static struct ibv_mr *implicit_mr(const struct stage *stage)
{
	struct ibv_mr *mr =
		ibv_reg_mr(stage->fabric.pd, NULL, SIZE_MAX,
			   IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_ON_DEMAND);

	if (!mr)
		wrong("no implicit region: %s", strerror(errno));
	return mr;
}

/* Parts of an explicit region, twice, of an implicit one, and of memory that is only read. */
static void several_regions(const void *what)
{
	struct stage stage = {};
	struct ibv_mr *implicit, *read_only;
	uint8_t *constant;
	uint64_t before, pages;

	(void)what;
	open_stage(&stage);
	need_implicit(&stage.fabric);
	implicit = implicit_mr(&stage);
	constant = mmap(NULL, 4 * PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS,
			-1, 0);
	read_only = ibv_reg_mr(stage.fabric.pd, constant, 4 * PAGE,
			       IBV_ACCESS_REMOTE_READ | IBV_ACCESS_ON_DEMAND);
	if (!read_only)
		wrong("memory that is only read is not registered: %s",
		      strerror(errno));
	before = counter("odp_page_prefetch");
	struct ibv_sge sges[] = {
		region_sge(&stage.far, 0, PAGE),
		{ (uintptr_t)stage.far.bytes + 8 * PAGE, 2 * PAGE,
		  implicit->lkey },
		{ (uintptr_t)constant, 4 * PAGE, read_only->lkey },
		region_sge(&stage.far, 30 * PAGE - 1, 2),
	};
	want(advise(&stage, IBV_ADVISE_MR_ADVICE_PREFETCH,
		    IBV_ADVISE_MR_FLAG_FLUSH, sges, COUNT(sges)),
	     0);
	pages = counter("odp_page_prefetch") - before;
	if (pages != 1 + 2 + 4 + 2)
		wrong("%lu pages were prefetched instead of 9", pages);
	if (faults_of(&stage, IBV_WR_RDMA_READ, 30 * PAGE - 1, 2))
		wrong("what was prefetched needed a fault");
	if (ibv_dereg_mr(implicit) || ibv_dereg_mr(read_only))
		wrong("not deregistered: %s", strerror(errno));
	close_stage(&stage);
}

/* Asks for the whole far region and, behind it, for what is refused: nothing may come. */
static void refused_behind_good(const struct stage *stage,
				enum ibv_advise_mr_advice advice,
				struct ibv_sge bad, int error)
{
	struct ibv_sge sges[] = { region_sge(&stage->far, 0, SIZE), bad };
	uint64_t before = counter("odp_page_prefetch");

	for (uint32_t flags = 0; flags <= IBV_ADVISE_MR_FLAG_FLUSH; flags++)
		want(ibv_advise_mr(stage->fabric.pd, advice, flags, sges, 2),
		     error);
	if (counter("odp_page_prefetch") != before)
		wrong("pages came all the same");
}

static void bad_keys(const void *what)
{
	const enum ibv_advise_mr_advice read = IBV_ADVISE_MR_ADVICE_PREFETCH;
	struct stage stage = {};
	struct ibv_mr *foreign;
	struct ibv_sge sge;
	struct ibv_pd *pd;
	struct ibv_mw *mw;

	(void)what;
	open_stage(&stage);
	sge = region_sge(&stage.far, 0, PAGE);
	snprintf(doing, sizeof(doing), "a key that nobody has");
	sge.lkey ^= 1;
	refused_behind_good(&stage, read, sge, ENOENT);

	snprintf(doing, sizeof(doing), "another protection domain");
	pd = ibv_alloc_pd(stage.fabric.context);
	foreign = ibv_reg_mr(pd, stage.far.bytes, SIZE,
			     IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_ON_DEMAND);
	if (!foreign)
		wrong("not registered: %s", strerror(errno));
	sge.lkey = foreign->lkey;
	refused_behind_good(&stage, read, sge, EPERM);

	snprintf(doing, sizeof(doing), "a pinned region");
	sge = region_sge(&stage.near, 0, PAGE);
	refused_behind_good(&stage, read, sge, EINVAL);

	snprintf(doing, sizeof(doing), "a memory window");
	mw = ibv_alloc_mw(stage.fabric.pd, IBV_MW_TYPE_1);
	if (!mw)
		wrong("no memory window: %s", strerror(errno));
	sge.lkey = mw->rkey;
	refused_behind_good(&stage, read, sge, EINVAL);

	*doing = 0;
	ibv_dealloc_mw(mw);
	if (ibv_dereg_mr(foreign) || ibv_dealloc_pd(pd))
		wrong("not freed: %s", strerror(errno));
	close_stage(&stage);
}

static void bad_ranges(const void *what)
{
	const enum ibv_advise_mr_advice read = IBV_ADVISE_MR_ADVICE_PREFETCH;
	struct stage stage = {};
	struct ibv_mr *read_only;
	struct ibv_sge sge;

	(void)what;
	open_stage(&stage);
	snprintf(doing, sizeof(doing), "one byte too long");
	sge = region_sge(&stage.far, PAGE, SIZE - PAGE + 1);
	refused_behind_good(&stage, read, sge, EFAULT);

	snprintf(doing, sizeof(doing), "one byte before");
	sge = region_sge(&stage.far, 0, PAGE);
	sge.addr--;
	refused_behind_good(&stage, read, sge, EFAULT);

	snprintf(doing, sizeof(doing), "an end that wraps");
	sge.addr = UINT64_MAX - 1;
	refused_behind_good(&stage, read, sge, EFAULT);

	snprintf(doing, sizeof(doing), "to write what is registered to read");
	read_only = ibv_reg_mr(stage.fabric.pd, stage.far.bytes, SIZE,
			       IBV_ACCESS_REMOTE_READ | IBV_ACCESS_ON_DEMAND);
	if (!read_only)
		wrong("not registered: %s", strerror(errno));
	sge = (struct ibv_sge){ (uintptr_t)stage.far.bytes, PAGE,
				read_only->lkey };
	refused_behind_good(&stage, IBV_ADVISE_MR_ADVICE_PREFETCH_WRITE, sge,
			    EPERM);
	*doing = 0;
	if (ibv_dereg_mr(read_only))
		wrong("not deregistered: %s", strerror(errno));
	close_stage(&stage);
}

/* What is not there fails with FLUSH; what is there comes all the same. */
static void a_hole(const void *what)
{
	struct stage stage = {};
	struct ibv_sge sge;

	(void)what;
	open_stage(&stage);
	if (mprotect(stage.far.bytes + 10 * PAGE, PAGE, PROT_NONE))
		wrong("mprotect: %s", strerror(errno));
	sge = region_sge(&stage.far, PART_AT, PART_LENGTH);
	want(advise(&stage, IBV_ADVISE_MR_ADVICE_PREFETCH_WRITE,
		    IBV_ADVISE_MR_FLAG_FLUSH, &sge, 1),
	     EFAULT);
	want(advise(&stage, IBV_ADVISE_MR_ADVICE_PREFETCH_WRITE, 0, &sge, 1),
	     0);
	if (mprotect(stage.far.bytes + 10 * PAGE, PAGE, PROT_READ | PROT_WRITE))
		wrong("mprotect: %s", strerror(errno));
	if (faults_of(&stage, IBV_WR_RDMA_WRITE, PART_AT, 5 * PAGE))
		wrong("pages before the hole did not come");
	faults_of(&stage, IBV_WR_RDMA_WRITE, PART_AT, PART_LENGTH);
	close_stage(&stage);
}

static void bad_advice(const void *what)
{
	struct stage stage = {};
	struct ibv_sge sge;

	(void)what;
	open_stage(&stage);
	sge = region_sge(&stage.far, 0, PAGE);
	snprintf(doing, sizeof(doing), "an advice that there is not");
	want(advise(&stage, 77, IBV_ADVISE_MR_FLAG_FLUSH, &sge, 1), EOPNOTSUPP);
	snprintf(doing, sizeof(doing), "a flag that there is not");
	want(advise(&stage, IBV_ADVISE_MR_ADVICE_PREFETCH, 1U << 7, &sge, 1),
	     EINVAL);
	snprintf(doing, sizeof(doing), "an empty list");
	want(advise(&stage, IBV_ADVISE_MR_ADVICE_PREFETCH, 0, &sge, 0), EINVAL);
	*doing = 0;
	close_stage(&stage);
}

/* A region goes while its pages come: both end, and the memory is the process' alone again. */
static void ends_with_its_region(const void *what)
{
	struct stage stage = {};
	struct timespec begin, end;
	struct ibv_sge sge;
	struct ibv_mr *mr;
	void *bytes;
	int ret;

	(void)what;
	open_stage(&stage);
	for (int i = 0; i < 4; i++) {
		bytes = mmap(NULL, LARGE, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		mr = ibv_reg_mr(stage.fabric.pd, bytes, LARGE,
				IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_ON_DEMAND);
		if (bytes == MAP_FAILED || !mr)
			wrong("not registered: %s", strerror(errno));
		sge = (struct ibv_sge){ (uintptr_t)bytes, LARGE, mr->lkey };
		want(advise(&stage, IBV_ADVISE_MR_ADVICE_PREFETCH_WRITE, 0,
			    &sge, 1),
		     0);
		clock_gettime(CLOCK_MONOTONIC, &begin);
		ret = ibv_dereg_mr(mr);
		clock_gettime(CLOCK_MONOTONIC, &end);
		if (ret)
			wrong("not deregistered: %s", strerror(ret));
		if (end.tv_sec - begin.tv_sec > DEADLINE_SECONDS)
			wrong("deregistering took %ld s",
			      (long)(end.tv_sec - begin.tv_sec));
		want(advise(&stage, IBV_ADVISE_MR_ADVICE_PREFETCH_WRITE, 0,
			    &sge, 1),
		     ENOENT);
		munmap(bytes, LARGE);
	}
	close_stage(&stage);
}

static const struct test tests[] = {
	{ "prefetch.for_reading", for_reading, NULL },
	{ "prefetch.for_writing", for_writing, NULL },
	{ "prefetch.for_writing_untouched", for_writing_untouched, NULL },
	{ "prefetch.for_reading_is_not_for_writing",
	  for_reading_is_not_for_writing, NULL },
	{ "prefetch.no_fault", no_fault, NULL },
	{ "prefetch.in_the_background", in_the_background, NULL },
	{ "prefetch.several_regions", several_regions, NULL },
	{ "prefetch.a_hole", a_hole, NULL },
	{ "prefetch.bad_keys", bad_keys, NULL },
	{ "prefetch.bad_ranges", bad_ranges, NULL },
	{ "prefetch.bad_advice", bad_advice, NULL },
	{ "prefetch.ends_with_its_region", ends_with_its_region, NULL },
};

TESTS(tests)
