/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Copyright (c) 2026 The Twostep authors */
/*
 * Somebody at the other end, with memory of his own that is pinned, who reaches the memory that
 * a test is about.
 */
#ifndef PEER_H
#define PEER_H

#include "fabric.h"
#include "region.h"

/**
 * struct peer - one
 * @fabric: the device
 * @pair: he posts at the near end
 * @near: his memory
 */
struct peer {
	struct fabric fabric;
	struct pair pair;
	struct region near;
};

/* With @size bytes, on a device that has on-demand paging for RC; skips the test if not. */
void peer_open(struct peer *peer, size_t size);
void peer_close(struct peer *peer);

/* Write new bytes to, or read new bytes from, a region; every byte of both is compared. */
void peer_writes(struct peer *peer, struct region *far, size_t at,
		 size_t length);
void peer_reads(struct peer *peer, struct region *far, size_t at,
		size_t length);

/* An operation on an address that must end with a status. Behind it the pair is a new one. */
void peer_fails(struct peer *peer, enum ibv_wr_opcode opcode, uint64_t address,
		uint32_t rkey, size_t length, enum ibv_wc_status status);

#endif /* PEER_H */
