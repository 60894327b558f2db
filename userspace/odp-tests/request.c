// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
// Copyright (c) 2026 The Twostep authors

#include <string.h>

#include "request.h"
#include "suite.h"

void post_rdma(struct end *end, enum ibv_wr_opcode opcode, struct ibv_sge local,
	       uint64_t address, uint32_t rkey)
{
	struct ibv_send_wr wr = { .sg_list = &local,
				  .num_sge = 1,
				  .opcode = opcode,
				  .send_flags = IBV_SEND_SIGNALED },
			   *bad;
	int ret;

	if (opcode == IBV_WR_ATOMIC_FETCH_AND_ADD) {
		wr.wr.atomic.remote_addr = address;
		wr.wr.atomic.rkey = rkey;
		wr.wr.atomic.compare_add = ADDED;
	} else {
		wr.wr.rdma.remote_addr = address;
		wr.wr.rdma.rkey = rkey;
	}
	ret = ibv_post_send(end->qp, &wr, &bad);
	if (ret)
		wrong("not posted: %s", strerror(ret));
}

enum ibv_wc_status try_rdma(struct end *end, enum ibv_wr_opcode opcode,
			    struct ibv_sge local, uint64_t address,
			    uint32_t rkey)
{
	post_rdma(end, opcode, local, address, rkey);
	return end_wait(end, "requester").status;
}

void must_rdma(struct end *end, enum ibv_wr_opcode opcode, struct region *near,
	       size_t near_at, struct region *far, size_t far_at, size_t length)
{
	post_rdma(end, opcode, region_sge(near, near_at, length),
		  far->iova + far_at, far->mr->rkey);
	end_wait_success(end, "requester");
	if (opcode == IBV_WR_RDMA_READ)
		region_copied(near, near_at, far, far_at, length);
	else
		region_copied(far, far_at, near, near_at, length);
	region_check(near);
	region_check(far);
}

void must_fail(struct end *end, enum ibv_wr_opcode opcode, struct region *near,
	       size_t near_at, size_t length, uint64_t address, uint32_t rkey,
	       enum ibv_wc_status status)
{
	enum ibv_wc_status found = try_rdma(
		end, opcode, region_sge(near, near_at, length), address, rkey);

	if (found != status)
		wrong("'%s' instead of '%s'", ibv_wc_status_str(found),
		      ibv_wc_status_str(status));
	region_check(near);
}
