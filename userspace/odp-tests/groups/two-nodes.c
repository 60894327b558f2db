// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
// Copyright (c) 2026 The Twostep authors
/*
 * Two hosts: one runs the tests, the other serves (odp-tests serve). Both have memory on demand;
 * the first posts, and the other's pages come and go. What each must hold at the end goes over
 * TCP, and each compares its own memory with what the other says.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "channel.h"
#include "fabric.h"
#include "options.h"
#include "region.h"
#include "request.h"
#include "suite.h"

#define PAGES 128
#define SIZE (PAGES * PAGE)
#define LONGEST (64UL << 10)
#define MESSAGES 40
#define WORDS 64
/* How long a receive is held back, at most, if nothing tells that somebody waits for it. */
#define HOLD_BACK_SECONDS 3
/* Soft-RoCE counts them. */
#define MISSED "send_rnr_err"

/**
 * struct kind - what is tried
 * @opcode: of the messages
 * @type: of the queue pairs
 * @churn: the other's pages are taken all the while
 * @late: receives are posted when the message has been refused for want of one
 */
struct kind {
	enum ibv_wr_opcode opcode;
	enum ibv_qp_type type;
	bool churn, late;
};

/**
 * struct side - one of the two
 * @channel: to the other
 * @fabric: the device
 * @end: connected to the other's
 * @region: on demand
 * @iova: of the other's region
 * @rkey: of the other's region
 */
struct side {
	struct channel *channel;
	struct fabric fabric;
	struct end end;
	struct region region;
	uint64_t iova;
	uint32_t rkey;
};

static void put_contact(struct side *side)
{
	struct contact contact = end_contact(&side->end, &side->fabric);

	channel_put_number(side->channel, contact.qp_num);
	channel_put_number(side->channel, contact.lid);
	channel_put(side->channel, contact.gid.raw, sizeof(contact.gid.raw));
	channel_put_number(side->channel, side->fabric.mtu);
	channel_put_number(side->channel, side->region.iova);
	channel_put_number(side->channel, side->region.mr->rkey);
}

/* Returns the smaller of both paths' MTUs. */
static enum ibv_mtu get_contact(struct side *side, struct contact *contact)
{
	enum ibv_mtu mtu;

	contact->qp_num = channel_get_number(side->channel);
	contact->lid = channel_get_number(side->channel);
	channel_get(side->channel, contact->gid.raw, sizeof(contact->gid.raw));
	mtu = channel_get_number(side->channel);
	side->iova = channel_get_number(side->channel);
	side->rkey = channel_get_number(side->channel);
	return mtu < side->fabric.mtu ? mtu : side->fabric.mtu;
}

static void side_open(struct side *side, struct channel *channel,
		      const struct kind *kind)
{
	struct contact contact;
	enum ibv_mtu mtu;

	*side = (struct side){ .channel = channel };
	fabric_open_odp(&side->fabric, kind->type);
	end_make(&side->end, &side->fabric, kind->type, false);
	region_make(&side->region, &side->fabric, SIZE,
		    ALL_ACCESS | IBV_ACCESS_ON_DEMAND);
	put_contact(side);
	mtu = get_contact(side, &contact);
	end_connect(&side->end, &side->fabric, kind->type, mtu, &contact,
		    RETRIES);
	region_prepare(&side->region, COLD);
	channel_meet(channel, 0);
}

static void side_close(struct side *side)
{
	end_destroy(&side->end);
	region_destroy(&side->region);
	fabric_close(&side->fabric);
}

/* The other's memory as it says; ours must be that. */
static void compare_with_other(struct side *side)
{
	channel_get(side->channel, side->region.want, SIZE);
	region_check(&side->region);
}

static void tell_other(struct side *side, const uint8_t *bytes)
{
	channel_put(side->channel, bytes, SIZE);
}

static bool has_receives(const struct kind *kind)
{
	return kind->opcode == IBV_WR_SEND ||
	       kind->opcode == IBV_WR_RDMA_WRITE_WITH_IMM;
}

/*
 * Until this device has told somebody to come again, where it counts that; else for a moment.
 */
static void wait_until_missed(bool counted, uint64_t before)
{
	const struct timespec moment = { .tv_nsec = 30000000 };
	time_t end = time(NULL) + HOLD_BACK_SECONDS;
	uint64_t now = before;

	if (!counted)
		nanosleep(&moment, NULL);
	while (counted && hw_counter(MISSED, &now) && now == before &&
	       time(NULL) < end)
		;
}

static void receive(struct side *side, const struct kind *kind, size_t at,
		    size_t length)
{
	struct ibv_sge sge = region_sge(&side->region, at, length);
	uint64_t before = 0;
	bool counted = hw_counter(MISSED, &before);

	if (kind->late) {
		/* The message is on its way, and nothing to receive it. */
		channel_meet(side->channel, 1);
		channel_meet(side->channel, 2);
		wait_until_missed(counted, before);
		post_receive(&side->end, &sge, 1);
	} else {
		post_receive(&side->end, &sge, 1);
		channel_meet(side->channel, 1);
		channel_meet(side->channel, 2);
	}
}

/**
 * struct taker - a thread that takes pages
 * @ends: told to
 * @taken: how often
 */
struct taker {
	bool ends;
	size_t taken;
};

/* A child shares the pages: they are write-protected, and the device must ask again. */
static void *take_pages(void *arg)
{
	struct taker *taker = arg;
	int status;
	pid_t child;

	while (!__atomic_load_n(&taker->ends, __ATOMIC_RELAXED)) {
		child = fork();
		if (!child)
			_exit(0);
		if (child < 0 || waitpid(child, &status, 0) != child)
			break;
		taker->taken++;
	}
	return NULL;
}

static void serve_messages(struct side *side, const struct kind *kind)
{
	uint64_t at, length;

	/* What comes next is said by who posts it; length 0 is the end. */
	while ((length = channel_get_number(side->channel))) {
		at = channel_get_number(side->channel);
		if (length > SIZE || at > SIZE - length)
			wrong("asked for %llu bytes at %llu",
			      (unsigned long long)length,
			      (unsigned long long)at);
		if (has_receives(kind)) {
			receive(side, kind, at, length);
			end_wait_success(&side->end, "receiver");
		}
	}
}

static void serve(struct channel *channel, const void *what)
{
	const struct kind *kind = what;
	struct taker taker = {};
	struct side side;
	pthread_t thread;

	side_open(&side, channel, kind);
	tell_other(&side, side.region.want);
	region_prepare(&side.region, COLD);
	channel_meet(channel, 10);
	if (kind->churn && pthread_create(&thread, NULL, take_pages, &taker))
		wrong("no thread");
	serve_messages(&side, kind);
	__atomic_store_n(&taker.ends, true, __ATOMIC_RELAXED);
	if (kind->churn) {
		pthread_join(thread, NULL);
		if (!taker.taken)
			wrong("no page was taken");
	}
	compare_with_other(&side);
	channel_meet(channel, 11);
	side_close(&side);
}

static void say_next(struct side *side, size_t at, size_t length)
{
	channel_put_number(side->channel, length);
	if (length)
		channel_put_number(side->channel, at);
}

static void post(struct side *side, const struct kind *kind, size_t at,
		 size_t far_at, size_t length)
{
	struct ibv_sge sge = region_sge(&side->region, at, length);

	if (has_receives(kind))
		channel_meet(side->channel, 1);
	post_rdma(&side->end, kind->opcode, sge, side->iova + far_at,
		  side->rkey);
	if (has_receives(kind))
		channel_meet(side->channel, 2);
	end_wait_success(&side->end, "requester");
}

static void one_message(struct side *side, const struct kind *kind,
			uint8_t *theirs)
{
	size_t length = 1 + below(LONGEST), at, far_at;
	struct region *region = &side->region;
	uint64_t value;

	if (kind->opcode == IBV_WR_ATOMIC_FETCH_AND_ADD)
		length = 8;
	at = below(SIZE - length);
	far_at = below(SIZE - length) & (length == 8 ? ~7UL : ~0UL);
	if (kind->opcode != IBV_WR_RDMA_READ)
		region_fill(region, at, length);
	region_prepare(region, below(EMPTY));
	say_next(side, far_at, length);
	post(side, kind, at, far_at, length);
	switch (kind->opcode) {
	case IBV_WR_RDMA_READ:
		memcpy(region->want + at, theirs + far_at, length);
		break;
	case IBV_WR_ATOMIC_FETCH_AND_ADD:
		memcpy(&value, theirs + far_at, 8);
		memcpy(region->want + at, &value, 8);
		value += ADDED;
		memcpy(theirs + far_at, &value, 8);
		break;
	default:
		memcpy(theirs + far_at, region->want + at, length);
	}
	region_check(region);
}

static void run(const void *what)
{
	const struct kind *kind = what;
	uint8_t *theirs = malloc(SIZE);
	struct channel channel;
	uint64_t before, after;
	struct side side;
	bool counted;

	channel_open(&channel);
	side_open(&side, &channel, kind);
	channel_get(&channel, theirs, SIZE);
	channel_meet(&channel, 10);
	counted = hw_counter("odp_faults", &before);
	for (size_t i = 0; i < (options.count ?: MESSAGES); i++) {
		snprintf(doing, sizeof(doing), "message %zu", i);
		one_message(&side, kind, theirs);
	}
	*doing = 0;
	say_next(&side, 0, 0);
	tell_other(&side, theirs);
	channel_meet(&channel, 11);
	if (counted && hw_counter("odp_faults", &after) && after == before)
		wrong("no page was faulted in");
	side_close(&side);
	channel_close(&channel);
	free(theirs);
}

#define KIND(rest, ...)                                                \
	{                                                              \
		.name = "two_nodes." rest, .run = run, .serve = serve, \
		.what = &(const struct kind)                           \
		{                                                      \
			__VA_ARGS__                                    \
		}                                                      \
	}

static const struct test tests[] = {
	KIND("write", IBV_WR_RDMA_WRITE, IBV_QPT_RC),
	KIND("write_imm", IBV_WR_RDMA_WRITE_WITH_IMM, IBV_QPT_RC),
	KIND("read", IBV_WR_RDMA_READ, IBV_QPT_RC),
	KIND("send", IBV_WR_SEND, IBV_QPT_RC),
	KIND("atomic", IBV_WR_ATOMIC_FETCH_AND_ADD, IBV_QPT_RC),
	KIND("late_receive", IBV_WR_SEND, IBV_QPT_RC, .late = true),
	KIND("uc_send", IBV_WR_SEND, IBV_QPT_UC),
	KIND("write.taken", IBV_WR_RDMA_WRITE, IBV_QPT_RC, .churn = true),
	KIND("read.taken", IBV_WR_RDMA_READ, IBV_QPT_RC, .churn = true),
	KIND("send.taken", IBV_WR_SEND, IBV_QPT_RC, .churn = true),
};

TESTS(tests)
