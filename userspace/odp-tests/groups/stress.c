// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
// Copyright (c) 2026 The Twostep authors
/*
 * A mix of everything, drawn: messages of all kinds between regions of all kinds, and between
 * them all that a process may do to its memory and its registrations. After each message every
 * byte of its regions is compared, now and then of all.
 *
 * One thread does all that changes what memory must hold, so a seed repeats its steps (-D or -n
 * say how many; --log names each). Another meanwhile does what must change nothing: pages out,
 * merges, makes pages huge, forks.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "backing.h"
#include "fabric.h"
#include "options.h"
#include "region.h"
#include "request.h"
#include "suite.h"

/* Of linux/mman.h, where the C library does not have it. */
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

#define PAGES 600
#define SIZE (PAGES * PAGE)
#define REGIONS 6
#define PAIRS 3
#define LONGEST (200UL << 10)
#define DEFAULT_SECONDS 10
/* All regions are compared so often. */
#define LOOK 64

/**
 * struct holder - one of the regions
 * @region: it
 * @backing: whose pages it has
 * @file: of the backing, or -1
 * @pinned: registered without on-demand paging: its pages must stay
 */
struct holder {
	struct region region;
	enum backing backing;
	int file;
	bool pinned;
};

/**
 * struct stage - all of it
 * @fabric: the device
 * @implicit: an MR of the address space, or NULL if the device has none
 * @holders: regions; the last is pinned
 * @pairs: queue pairs
 * @log: each step, or NULL
 * @step: its number
 * @random: sequence of the other thread
 * @ends: told to it
 */
struct stage {
	struct fabric fabric;
	struct ibv_mr *implicit;
	struct holder holders[REGIONS];
	struct pair pairs[PAIRS];
	FILE *log;
	size_t step;
	uint64_t random;
	bool ends;
};

__attribute__((format(printf, 2, 3))) static void note(struct stage *stage,
						       const char *format, ...)
{
	size_t length =
		snprintf(doing, sizeof(doing), "step %zu, ", stage->step);
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(doing + length, sizeof(doing) - length, format, arguments);
	va_end(arguments);
	if (stage->log)
		fprintf(stage->log, "%s\n", doing);
}

static size_t number_of(const struct stage *stage, const struct holder *holder)
{
	return holder - stage->holders;
}

static void hold(struct stage *stage, struct holder *holder, size_t nr)
{
	holder->pinned = nr == REGIONS - 1;
	holder->backing = holder->pinned ? ANONYMOUS : nr % 3;
	region_make(&holder->region, &stage->fabric, SIZE,
		    ALL_ACCESS | (holder->pinned ? 0 : IBV_ACCESS_ON_DEMAND));
	holder->file = region_back(&holder->region, holder->backing);
}

static void connect_pair(struct stage *stage, struct pair *pair)
{
	static const enum ibv_mtu mtus[] = { IBV_MTU_256, IBV_MTU_1024,
					     IBV_MTU_4096 };

	pair_make(pair, &stage->fabric, IBV_QPT_RC,
		  mtus[(pair - stage->pairs) % COUNT(mtus)], false);
}

static void open_stage(struct stage *stage)
{
	fabric_open_odp(&stage->fabric, IBV_QPT_RC);
	for (size_t i = 0; i < REGIONS; i++)
		hold(stage, &stage->holders[i], i);
	for (size_t i = 0; i < PAIRS; i++)
		connect_pair(stage, &stage->pairs[i]);
	if (stage->fabric.attr.odp_caps.general_caps & IBV_ODP_SUPPORT_IMPLICIT)
		stage->implicit = ibv_reg_mr(stage->fabric.pd, NULL, SIZE_MAX,
					     ALL_ACCESS | IBV_ACCESS_ON_DEMAND);
	if (options.log) {
		stage->log = fopen(options.log, "we");
		if (!stage->log)
			wrong("%s is not written: %s", options.log,
			      strerror(errno));
		setvbuf(stage->log, NULL, _IOLBF, 0);
	}
}

static void look_at_all(struct stage *stage)
{
	for (size_t i = 0; i < REGIONS; i++)
		region_check(&stage->holders[i].region);
}

static void close_stage(struct stage *stage)
{
	look_at_all(stage);
	for (size_t i = 0; i < PAIRS; i++)
		pair_destroy(&stage->pairs[i]);
	if (stage->implicit && ibv_dereg_mr(stage->implicit))
		wrong("the implicit MR is not deregistered");
	for (size_t i = 0; i < REGIONS; i++) {
		region_destroy(&stage->holders[i].region);
		if (stage->holders[i].file >= 0)
			close(stage->holders[i].file);
	}
	fabric_close(&stage->fabric);
	if (stage->log && fclose(stage->log))
		wrong("%s is not written: %s", options.log, strerror(errno));
}

/* Bytes of a region, as its own MR names them or, on demand, as that of the address space. */
static uint64_t address_of(const struct stage *stage,
			   const struct holder *holder, size_t at,
			   uint32_t *rkey)
{
	const struct region *region = &holder->region;

	if (stage->implicit && !holder->pinned && below(3) == 0) {
		*rkey = stage->implicit->rkey;
		return (uintptr_t)region->bytes + at;
	}
	*rkey = region->mr->rkey;
	return region->iova + at;
}

static void move(struct stage *stage, enum ibv_wr_opcode opcode)
{
	struct holder *near = &stage->holders[below(REGIONS)], *far;
	struct pair *pair = &stage->pairs[below(PAIRS)];
	size_t length = 1 + below(below(4) ? 9000 : LONGEST);
	size_t near_at = below(SIZE - length), far_at = below(SIZE - length);
	bool pull = opcode == IBV_WR_RDMA_READ;
	struct ibv_sge local, remote;
	uint64_t address;
	uint32_t rkey;

	do {
		far = &stage->holders[below(REGIONS)];
	} while (far == near);
	note(stage, "opcode %d, %zu bytes at %zu of region %zu and %zu of %zu",
	     opcode, length, near_at, number_of(stage, near), far_at,
	     number_of(stage, far));
	if (pull)
		region_fill(&far->region, far_at, length);
	else
		region_fill(&near->region, near_at, length);
	local = region_sge(&near->region, near_at, length);
	remote = region_sge(&far->region, far_at, length);
	address = address_of(stage, far, far_at, &rkey);
	if (opcode == IBV_WR_SEND)
		post_receive(&pair->far, &remote, 1);
	post_rdma(&pair->near, opcode, local, address, rkey);
	end_wait_success(&pair->near, "requester");
	if (opcode == IBV_WR_SEND)
		end_wait_success(&pair->far, "receiver");
	if (pull)
		region_copied(&near->region, near_at, &far->region, far_at,
			      length);
	else
		region_copied(&far->region, far_at, &near->region, near_at,
			      length);
	region_check(&near->region);
	region_check(&far->region);
}

static void write_bytes(struct stage *stage)
{
	move(stage, IBV_WR_RDMA_WRITE);
}

static void read_bytes(struct stage *stage)
{
	move(stage, IBV_WR_RDMA_READ);
}

static void send_bytes(struct stage *stage)
{
	move(stage, IBV_WR_SEND);
}

static void add(struct stage *stage)
{
	struct region *near = &stage->holders[below(REGIONS)].region;
	struct holder *far = &stage->holders[below(REGIONS)];
	struct pair *pair = &stage->pairs[below(PAIRS)];
	size_t near_at = below(SIZE - 8), far_at = below(SIZE / 8) * 8;
	uint64_t value, address;
	uint32_t rkey;

	note(stage, "atomic, to %zu from %zu of region %zu", near_at, far_at,
	     number_of(stage, far));
	if (near == &far->region && near_at / PAGE == far_at / PAGE)
		return;
	address = address_of(stage, far, far_at, &rkey);
	post_rdma(&pair->near, IBV_WR_ATOMIC_FETCH_AND_ADD,
		  region_sge(near, near_at, 8), address, rkey);
	end_wait_success(&pair->near, "requester");
	memcpy(&value, far->region.want + far_at, 8);
	memcpy(near->want + near_at, &value, 8);
	value += ADDED;
	memcpy(far->region.want + far_at, &value, 8);
	region_check(near);
	region_check(&far->region);
}

/* A region whose pages may go, and a part of it. */
static struct holder *draw_part(struct stage *stage, size_t *at, size_t *length)
{
	struct holder *holder = &stage->holders[below(REGIONS - 1)];

	*at = below(PAGES) * PAGE;
	*length = (1 + below(64)) * PAGE;
	if (*length > SIZE - *at)
		*length = SIZE - *at;
	return holder;
}

/* The part is zeros now. */
static void empty(struct stage *stage)
{
	size_t at, length;
	struct holder *holder = draw_part(stage, &at, &length);
	uint8_t *bytes = holder->region.bytes + at;
	int ret;

	note(stage, "%zu pages at %zu of region %zu are emptied", length / PAGE,
	     at, number_of(stage, holder));
	if (holder->file >= 0)
		ret = fallocate(holder->file,
				FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at,
				length);
	else
		ret = madvise(bytes, length, MADV_DONTNEED);
	if (ret)
		wrong("not emptied: %s", strerror(errno));
	memset(holder->region.want + at, 0, length);
}

/* Other memory at the same address, with the same bytes. */
static void replace(struct stage *stage)
{
	size_t at, length;
	struct holder *holder = draw_part(stage, &at, &length);
	uint8_t *bytes = holder->region.bytes + at;
	int flags =
		MAP_FIXED |
		(holder->file >= 0 ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS);

	note(stage, "%zu pages at %zu of region %zu are mapped anew",
	     length / PAGE, at, number_of(stage, holder));
	if (mmap(bytes, length, PROT_READ | PROT_WRITE, flags, holder->file,
		 holder->file >= 0 ? at : 0) != bytes)
		wrong("not mapped: %s", strerror(errno));
	if (holder->file < 0)
		memcpy(bytes, holder->region.want + at, length);
}

/* The same pages elsewhere, and back again. */
static void move_away_and_back(struct stage *stage)
{
	size_t at, length;
	struct holder *holder = draw_part(stage, &at, &length);
	uint8_t *bytes = holder->region.bytes + at, *elsewhere;

	note(stage, "%zu pages at %zu of region %zu move and return",
	     length / PAGE, at, number_of(stage, holder));
	elsewhere = mremap(bytes, length, length,
			   MREMAP_MAYMOVE | MREMAP_DONTUNMAP);
	if (elsewhere == MAP_FAILED)
		return;
	if (mremap(elsewhere, length, length, MREMAP_MAYMOVE | MREMAP_FIXED,
		   bytes) != bytes)
		wrong("not moved back: %s", strerror(errno));
}

static void take(struct stage *stage)
{
	size_t at, length;
	struct holder *holder = draw_part(stage, &at, &length);
	uint8_t *bytes = holder->region.bytes + at;

	note(stage, "%zu pages at %zu of region %zu lose their rights",
	     length / PAGE, at, number_of(stage, holder));
	if (mprotect(bytes, length, below(2) ? PROT_NONE : PROT_READ) ||
	    mprotect(bytes, length, PROT_READ | PROT_WRITE))
		wrong("mprotect: %s", strerror(errno));
}

static void prefetch(struct stage *stage)
{
	static const enum ibv_advise_mr_advice advices[] = {
		IBV_ADVISE_MR_ADVICE_PREFETCH,
		IBV_ADVISE_MR_ADVICE_PREFETCH_WRITE,
		IBV_ADVISE_MR_ADVICE_PREFETCH_NO_FAULT,
	};
	size_t at, length;
	struct holder *holder = draw_part(stage, &at, &length);
	struct ibv_sge sge = region_sge(&holder->region, at, length);
	size_t advice = below(COUNT(advices));
	int ret;

	note(stage, "advice %zu for %zu pages at %zu of region %zu", advice,
	     length / PAGE, at, number_of(stage, holder));
	/* Without faults it brings what there is, and may find that too little. */
	ret = ibv_advise_mr(stage->fabric.pd, advices[advice],
			    below(2) ? IBV_ADVISE_MR_FLAG_FLUSH : 0, &sge, 1);
	if (ret && ret != EOPNOTSUPP && advice != 2)
		wrong("no prefetch: %s", strerror(ret));
}

static void register_anew(struct stage *stage)
{
	struct holder *holder = &stage->holders[below(REGIONS)];
	struct region *region = &holder->region;
	int access = ALL_ACCESS | (holder->pinned ? 0 : IBV_ACCESS_ON_DEMAND);
	int ret;

	note(stage, "region %zu is registered anew", number_of(stage, holder));
	ret = ibv_dereg_mr(region->mr);
	if (ret)
		wrong("not deregistered: %s", strerror(ret));
	region->mr = ibv_reg_mr(stage->fabric.pd, region->bytes, SIZE, access);
	if (!region->mr)
		wrong("not registered: %s", strerror(errno));
}

static void connect_anew(struct stage *stage)
{
	struct pair *pair = &stage->pairs[below(PAIRS)];

	note(stage, "pair %zu is made anew", (size_t)(pair - stage->pairs));
	pair_destroy(pair);
	connect_pair(stage, pair);
}

/* A child that writes over all that is not a file's. */
static void have_child(struct stage *stage)
{
	int status;
	pid_t child;

	note(stage, "a child writes over its memory");
	child = fork();
	if (!child) {
		for (size_t i = 0; i < REGIONS - 1; i++)
			if (stage->holders[i].file < 0)
				memset(stage->holders[i].region.bytes, 1, SIZE);
		_exit(0);
	}
	if (child < 0 || waitpid(child, &status, 0) != child || status)
		wrong("the child did not do its work");
}

static const struct {
	void (*run)(struct stage *stage);
	unsigned int weight;
} steps[] = {
	{ write_bytes, 20 },
	{ read_bytes, 20 },
	{ send_bytes, 12 },
	{ add, 12 },
	{ empty, 8 },
	{ replace, 6 },
	{ move_away_and_back, 4 },
	{ take, 8 },
	{ prefetch, 5 },
	{ register_anew, 2 },
	{ connect_anew, 2 },
	{ have_child, 1 },
};

static void one_step(struct stage *stage)
{
	unsigned int total = 0;
	size_t drawn;

	for (size_t i = 0; i < COUNT(steps); i++)
		total += steps[i].weight;
	drawn = below(total);
	for (size_t i = 0; i < COUNT(steps); i++) {
		if (drawn < steps[i].weight) {
			steps[i].run(stage);
			break;
		}
		drawn -= steps[i].weight;
	}
	if (++stage->step % LOOK == 0)
		look_at_all(stage);
}

static uint64_t next(uint64_t *random)
{
	*random ^= *random << 13;
	*random ^= *random >> 7;
	*random ^= *random << 17;
	return *random;
}

/* What changes nothing. What a kernel does not know of it, it need not do. */
static void *change_nothing(void *arg)
{
	static const int advices[] = { MADV_PAGEOUT,   MADV_COLD,
				       MADV_COLLAPSE,  MADV_HUGEPAGE,
				       MADV_MERGEABLE, MADV_NOHUGEPAGE };
	struct stage *stage = arg;

	while (!__atomic_load_n(&stage->ends, __ATOMIC_RELAXED)) {
		struct holder *holder =
			&stage->holders[next(&stage->random) % REGIONS];
		size_t at = next(&stage->random) % PAGES;
		size_t pages = 1 + next(&stage->random) % 64;

		if (pages > PAGES - at)
			pages = PAGES - at;
		madvise(holder->region.bytes + at * PAGE, pages * PAGE,
			advices[next(&stage->random) % COUNT(advices)]);
	}
	return NULL;
}

static void mix(const void *what)
{
	time_t seconds = options.seconds ? options.seconds : DEFAULT_SECONDS;
	struct stage stage = {};
	pthread_t thread;
	time_t end;

	(void)what;
	open_stage(&stage);
	stage.random = draw() | 1;
	if (pthread_create(&thread, NULL, change_nothing, &stage))
		wrong("no thread");
	end = time(NULL) + seconds;
	/* As long as either that is asked for lasts. */
	if (options.count && !options.seconds)
		end = 0;
	while (stage.step < options.count || time(NULL) < end)
		one_step(&stage);
	__atomic_store_n(&stage.ends, true, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
	*doing = 0;
	printf("# %zu steps; -n %zu without -D repeats them\n", stage.step,
	       stage.step);
	close_stage(&stage);
}

static const struct test tests[] = {
	/* As long as is asked, and no deadline but that. */
	{ .name = "stress.mix", .run = mix, .lasts = true },
};

TESTS(tests)
