// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
// Copyright (c) 2026 The Twostep authors
/*
 * Many of everything: regions, regions of one page, queue pairs. (The terabyte is in
 * registration.c.)
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "peer.h"
#include "request.h"
#include "suite.h"

#define ON_DEMAND (ALL_ACCESS | IBV_ACCESS_ON_DEMAND)
#define REGIONS 10000
#define OF_ONE_PAGE 1000
#define PAIRS 500
/* Of many, as many are used. */
#define USED 300

static struct ibv_mr *must_register(const struct peer *peer, uint8_t *bytes,
				    size_t length)
{
	struct ibv_mr *mr =
		ibv_reg_mr(peer->fabric.pd, bytes, length, ON_DEMAND);

	if (!mr)
		wrong("not registered: %s", strerror(errno));
	return mr;
}

static void must_deregister(struct ibv_mr *mr)
{
	int ret = ibv_dereg_mr(mr);

	if (ret)
		wrong("not deregistered: %s", strerror(ret));
}

static void must_allow(int have, int need, const char *what)
{
	if (have < need)
		skip(DEVICE, "it allows %d %s, and the test has %d", have, what,
		     need);
}

/* The page NR of a region, by an MR of its own. */
static struct region page_of(const struct region *whole, size_t nr,
			     struct ibv_mr *mr)
{
	return (struct region){
		.bytes = whole->bytes + nr * PAGE,
		.size = PAGE,
		.want = whole->want + nr * PAGE,
		.mr = mr,
		.iova = (uintptr_t)whole->bytes + nr * PAGE,
		.odp = true,
	};
}

static void ten_thousand_regions(const void *what)
{
	struct ibv_mr **mrs = calloc(REGIONS, sizeof(*mrs));
	struct region whole, page;
	struct peer peer;

	(void)what;
	peer_open(&peer, 2 * PAGE);
	must_allow(peer.fabric.attr.orig_attr.max_mr, REGIONS + 10, "MRs");
	region_make(&whole, &peer.fabric, REGIONS * PAGE, ON_DEMAND);
	for (size_t i = 0; i < REGIONS; i++)
		mrs[i] = must_register(&peer, whole.bytes + i * PAGE, PAGE);
	for (size_t i = 0; i < USED; i++) {
		size_t nr = i ? below(REGIONS) : REGIONS - 1;

		snprintf(doing, sizeof(doing), "region %zu", nr);
		page = page_of(&whole, nr, mrs[nr]);
		peer_writes(&peer, &page, below(PAGE / 2), 1 + below(PAGE / 2));
		peer_reads(&peer, &page, below(PAGE / 2), 1 + below(PAGE / 2));
	}
	/* All pages go at once, from all of them. */
	region_prepare(&whole, COLD);
	for (size_t i = 0; i < USED; i++) {
		size_t nr = below(REGIONS);

		snprintf(doing, sizeof(doing), "region %zu again", nr);
		page = page_of(&whole, nr, mrs[nr]);
		peer_writes(&peer, &page, 0, PAGE);
	}
	region_check(&whole);
	for (size_t i = 0; i < REGIONS; i++)
		must_deregister(mrs[i]);
	region_destroy(&whole);
	peer_close(&peer);
	free(mrs);
}

/* A page that goes goes from every region that has it. */
static void many_regions_of_one_page(const void *what)
{
	struct ibv_mr *mrs[OF_ONE_PAGE];
	struct region whole, page;
	struct peer peer;

	(void)what;
	peer_open(&peer, 2 * PAGE);
	must_allow(peer.fabric.attr.orig_attr.max_mr, OF_ONE_PAGE + 10, "MRs");
	region_make(&whole, &peer.fabric, PAGE, ON_DEMAND);
	for (size_t i = 0; i < OF_ONE_PAGE; i++)
		mrs[i] = must_register(&peer, whole.bytes, PAGE);
	for (int round = 0; round < 3; round++) {
		for (size_t i = 0; i < OF_ONE_PAGE; i++) {
			snprintf(doing, sizeof(doing), "region %zu, round %d",
				 i, round);
			page = page_of(&whole, 0, mrs[i]);
			peer_writes(&peer, &page, below(PAGE / 2),
				    1 + below(100));
		}
		region_prepare(&whole, round ? EMPTY : COLD);
	}
	page = page_of(&whole, 0, mrs[OF_ONE_PAGE - 1]);
	peer_reads(&peer, &page, 0, PAGE);
	for (size_t i = 0; i < OF_ONE_PAGE; i++)
		must_deregister(mrs[i]);
	region_destroy(&whole);
	peer_close(&peer);
}

/* All their requests are on their way before the first is waited for. */
static void a_thousand_queue_pairs(const void *what)
{
	struct pair *pairs = calloc(PAIRS, sizeof(*pairs));
	struct region far;
	struct peer peer;

	(void)what;
	peer_open(&peer, PAIRS * PAGE);
	must_allow(peer.fabric.attr.orig_attr.max_qp, 2 * PAIRS + 10,
		   "queue pairs");
	region_make(&far, &peer.fabric, PAIRS * PAGE, ON_DEMAND);
	for (size_t i = 0; i < PAIRS; i++)
		pair_make(&pairs[i], &peer.fabric, IBV_QPT_RC, peer.fabric.mtu,
			  false);
	for (int round = 0; round < 2; round++) {
		region_fill(&peer.near, 0, PAIRS * PAGE);
		region_prepare(&far, round ? EMPTY : COLD);
		for (size_t i = 0; i < PAIRS; i++) {
			size_t at = i * PAGE + below(PAGE / 2);
			size_t length = 1 + below(PAGE / 2);

			post_rdma(&pairs[i].near, IBV_WR_RDMA_WRITE,
				  region_sge(&peer.near, at, length),
				  far.iova + at, far.mr->rkey);
			region_copied(&far, at, &peer.near, at, length);
		}
		for (size_t i = 0; i < PAIRS; i++) {
			snprintf(doing, sizeof(doing), "pair %zu, round %d", i,
				 round);
			end_wait_success(&pairs[i].near, "requester");
		}
		region_check(&far);
	}
	for (size_t i = 0; i < PAIRS; i++)
		pair_destroy(&pairs[i]);
	region_destroy(&far);
	peer_close(&peer);
	free(pairs);
}

static const struct test tests[] = {
#define TEST(what) { "scale." #what, what }
	TEST(ten_thousand_regions),
	TEST(many_regions_of_one_page),
	TEST(a_thousand_queue_pairs),
};

TESTS(tests)
