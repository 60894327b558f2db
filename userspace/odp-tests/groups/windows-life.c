// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
// Copyright (c) 2026 The Twostep authors
/*
 * a memory window and what is below it live and die at the same time as
 * other things happen: the region stays as long as a window needs it, pages come and go, and
 * binding races with deregistering.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "options.h"
#include "window.h"

/* Of linux/mman.h, where the C library does not have it. */
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

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
	hw_counter("odp_page_invalidations", &before);
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
		want_moved("odp_page_invalidations", before);
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

static const struct behaviour behaviours[] = {
	{ "mr_stays_below", mr_stays_below, BOTH, ANY },
	{ "pages_go", pages_go, BOTH, BIT(EXPLICIT) | BIT(IMPLICIT) },
	{ "stays_in_races", stays_in_races, BOTH, ANY },
	{ "goes_in_races", goes_in_races, BOTH, ANY },
};

BEHAVIOURS(behaviours)
