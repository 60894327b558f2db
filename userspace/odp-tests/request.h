/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Copyright (c) 2026 The Twostep authors */
/*
 * A work request of one piece of memory, for tests that are about something else than requests.
 */
#ifndef REQUEST_H
#define REQUEST_H

#include "fabric.h"
#include "region.h"

/* What a fetch-and-add adds. */
#define ADDED 0x0102030405060708ULL

/*
 * Post a write, a read or an atomic between local memory and @address of @rkey, without a wait.
 */
void post_rdma(struct end *end, enum ibv_wr_opcode opcode, struct ibv_sge local,
	       uint64_t address, uint32_t rkey);

/* The same, and how it ended. */
enum ibv_wc_status try_rdma(struct end *end, enum ibv_wr_opcode opcode,
			    struct ibv_sge local, uint64_t address,
			    uint32_t rkey);

/*
 * Write or read bytes of the near end's region to or from the far one's, book them, and compare
 * every byte of both.
 */
void must_rdma(struct end *end, enum ibv_wr_opcode opcode, struct region *near,
	       size_t near_at, struct region *far, size_t far_at,
	       size_t length);

/* It must end with this status, and leave every byte as it was. The pair is in error then. */
void must_fail(struct end *end, enum ibv_wr_opcode opcode, struct region *near,
	       size_t near_at, size_t length, uint64_t address, uint32_t rkey,
	       enum ibv_wc_status status);

#endif /* REQUEST_H */
