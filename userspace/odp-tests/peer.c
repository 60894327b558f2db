// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
// Copyright (c) 2026 The Twostep authors

#include "peer.h"
#include "request.h"
#include "suite.h"

static void connect_pair(struct peer *peer)
{
	pair_make(&peer->pair, &peer->fabric, IBV_QPT_RC, peer->fabric.mtu,
		  false);
}

void peer_open(struct peer *peer, size_t size)
{
	fabric_open_odp(&peer->fabric, IBV_QPT_RC);
	connect_pair(peer);
	region_make(&peer->near, &peer->fabric, size, ALL_ACCESS);
}

void peer_close(struct peer *peer)
{
	pair_destroy(&peer->pair);
	region_destroy(&peer->near);
	fabric_close(&peer->fabric);
}

void peer_writes(struct peer *peer, struct region *far, size_t at,
		 size_t length)
{
	size_t near_at = below(peer->near.size - length + 1);

	region_fill(&peer->near, near_at, length);
	must_rdma(&peer->pair.near, IBV_WR_RDMA_WRITE, &peer->near, near_at,
		  far, at, length);
}

void peer_reads(struct peer *peer, struct region *far, size_t at, size_t length)
{
	size_t near_at = below(peer->near.size - length + 1);

	must_rdma(&peer->pair.near, IBV_WR_RDMA_READ, &peer->near, near_at, far,
		  at, length);
}

void peer_fails(struct peer *peer, enum ibv_wr_opcode opcode, uint64_t address,
		uint32_t rkey, size_t length, enum ibv_wc_status status)
{
	must_fail(&peer->pair.near, opcode, &peer->near, 0, length, address,
		  rkey, status);
	pair_destroy(&peer->pair);
	connect_pair(peer);
}
