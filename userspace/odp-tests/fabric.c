// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
// Copyright (c) 2026 The Twostep authors

#include <errno.h>
#include <string.h>
#include <time.h>

#include "fabric.h"
#include "newer.h"
#include "options.h"
#include "place.h"
#include "suite.h"

#define DEADLINE_SECONDS 20
#define DEPTH 64
#define PSN 17

void fabric_open(struct fabric *fabric)
{
	struct ibv_device **list = ibv_get_device_list(NULL);

	*fabric = (struct fabric){
		.port = place.port,
		.gid_index = place.gid_index,
		.gid = place.gid,
		.lid = place.lid,
		.mtu = place.mtu,
	};
	for (int i = 0; list && list[i]; i++)
		if (!strcmp(ibv_get_device_name(list[i]), place.device))
			fabric->context = ibv_open_device(list[i]);
	ibv_free_device_list(list);
	if (!fabric->context)
		wrong("%s is not opened: %s", place.device, strerror(errno));
	fabric->pd = ibv_alloc_pd(fabric->context);
	if (!fabric->pd)
		wrong("no protection domain: %s", strerror(errno));
	if (ibv_query_device_ex(fabric->context, NULL, &fabric->attr))
		wrong("%s does not say what it can", place.device);
}

void fabric_open_odp(struct fabric *fabric, enum ibv_qp_type type)
{
	static const char *const names[] = {
		[IBV_QPT_RC] = "RC",
		[IBV_QPT_UC] = "UC",
		[IBV_QPT_UD] = "UD",
	};

	fabric_open(fabric);
	if (!odp_caps(fabric, type))
		skip(place.software ? KERNEL : DEVICE,
		     "%s announces no on-demand paging for %s", place.device,
		     names[type]);
}

void need_implicit(const struct fabric *fabric)
{
	if (!(fabric->attr.odp_caps.general_caps & IBV_ODP_SUPPORT_IMPLICIT))
		skip(place.software ? KERNEL : DEVICE,
		     "%s announces no implicit MR", place.device);
}

void fabric_close(struct fabric *fabric)
{
	if (ibv_dealloc_pd(fabric->pd) || ibv_close_device(fabric->context))
		wrong("%s is not closed: %s", place.device, strerror(errno));
}

uint32_t odp_caps(const struct fabric *fabric, enum ibv_qp_type type)
{
	const struct ibv_odp_caps *caps = &fabric->attr.odp_caps;

	if (!(caps->general_caps & IBV_ODP_SUPPORT))
		return 0;
	switch (type) {
	case IBV_QPT_RC:
		return caps->per_transport_caps.rc_odp_caps;
	case IBV_QPT_UC:
		return caps->per_transport_caps.uc_odp_caps;
	case IBV_QPT_UD:
		return caps->per_transport_caps.ud_odp_caps;
	default:
		return 0;
	}
}

unsigned int mtu_bytes(enum ibv_mtu mtu)
{
	return 128U << mtu;
}

static uint64_t send_ops(enum ibv_qp_type type)
{
	uint64_t ops = IBV_QP_EX_WITH_SEND | IBV_QP_EX_WITH_SEND_WITH_IMM;

	if (type == IBV_QPT_UD)
		return ops;
	ops |= IBV_QP_EX_WITH_RDMA_WRITE | IBV_QP_EX_WITH_RDMA_WRITE_WITH_IMM;
	if (type == IBV_QPT_UC)
		return ops;
	return ops | IBV_QP_EX_WITH_SEND_WITH_INV | IBV_QP_EX_WITH_RDMA_READ |
	       IBV_QP_EX_WITH_ATOMIC_CMP_AND_SWP |
	       IBV_QP_EX_WITH_ATOMIC_FETCH_AND_ADD |
	       IBV_QP_EX_WITH_ATOMIC_WRITE | IBV_QP_EX_WITH_FLUSH |
	       IBV_QP_EX_WITH_BIND_MW;
}

void end_make(struct end *end, const struct fabric *fabric,
	      enum ibv_qp_type type, bool srq)
{
	struct ibv_srq_init_attr srq_init = {
		.attr = { .max_wr = DEPTH, .max_sge = MAX_SGE },
	};
	struct ibv_qp_init_attr_ex init = {
		.qp_type = type,
		.sq_sig_all = 1,
		.cap = { .max_send_wr = DEPTH,
			 .max_recv_wr = DEPTH,
			 .max_send_sge = MAX_SGE,
			 .max_recv_sge = MAX_SGE,
			 .max_inline_data = MAX_INLINE },
		.comp_mask = IBV_QP_INIT_ATTR_PD |
			     IBV_QP_INIT_ATTR_SEND_OPS_FLAGS,
		.pd = fabric->pd,
		.send_ops_flags = send_ops(type),
	};
	uint32_t caps = odp_caps(fabric, type);

	/* Not every provider makes a queue pair for these. */
	if (!(caps & ODP_SUPPORT_ATOMIC_WRITE))
		init.send_ops_flags &= ~(uint64_t)IBV_QP_EX_WITH_ATOMIC_WRITE;
	if (!(caps & ODP_SUPPORT_FLUSH))
		init.send_ops_flags &= ~(uint64_t)IBV_QP_EX_WITH_FLUSH;

	end->cq = ibv_create_cq(fabric->context, 2 * DEPTH, NULL, NULL, 0);
	if (!end->cq)
		wrong("no completion queue: %s", strerror(errno));
	if (srq) {
		end->srq = ibv_create_srq(fabric->pd, &srq_init);
		if (!end->srq)
			wrong("no shared receive queue: %s", strerror(errno));
		init.srq = end->srq;
		init.cap.max_recv_wr = 0;
		init.cap.max_recv_sge = 0;
	}
	init.send_cq = end->cq;
	init.recv_cq = end->cq;
	end->qp = ibv_create_qp_ex(fabric->context, &init);
	if (!end->qp)
		wrong("no queue pair: %s", strerror(errno));
	end->ex = ibv_qp_to_qp_ex(end->qp);
}

static void modify(struct end *end, struct ibv_qp_attr *attr, int mask)
{
	if (ibv_modify_qp(end->qp, attr, mask | IBV_QP_STATE))
		wrong("queue pair to state %d: %s", attr->qp_state,
		      strerror(errno));
}

static void end_init(struct end *end, const struct fabric *fabric,
		     enum ibv_qp_type type)
{
	struct ibv_qp_attr attr = {
		.qp_state = IBV_QPS_INIT,
		.port_num = fabric->port,
		.qkey = QKEY,
		.qp_access_flags = IBV_ACCESS_LOCAL_WRITE |
				   IBV_ACCESS_REMOTE_WRITE,
	};

	if (type == IBV_QPT_RC)
		attr.qp_access_flags |=
			IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_ATOMIC |
			IBV_ACCESS_FLUSH_GLOBAL | IBV_ACCESS_FLUSH_PERSISTENT;
	modify(end, &attr,
	       IBV_QP_PKEY_INDEX | IBV_QP_PORT |
		       (type == IBV_QPT_UD ? IBV_QP_QKEY :
					     IBV_QP_ACCESS_FLAGS));
}

struct contact end_contact(const struct end *end, const struct fabric *fabric)
{
	return (struct contact){ .qp_num = end->qp->qp_num,
				 .lid = fabric->lid,
				 .gid = fabric->gid };
}

static struct ibv_ah_attr way(const struct fabric *fabric,
			      const struct contact *remote)
{
	return (struct ibv_ah_attr){
		.is_global = 1,
		.port_num = fabric->port,
		.dlid = remote->lid,
		.grh = { .dgid = remote->gid,
			 .sgid_index = fabric->gid_index,
			 .hop_limit = 4 },
	};
}

void end_connect(struct end *end, const struct fabric *fabric,
		 enum ibv_qp_type type, enum ibv_mtu mtu,
		 const struct contact *remote, unsigned int retries)
{
	struct ibv_qp_attr attr = { .qp_state = IBV_QPS_RESET };
	int connected = IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN |
			IBV_QP_RQ_PSN;
	int reliable = IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER;

	/* Soft-RoCE takes any, and its packets are cut on their way. */
	if (mtu > fabric->mtu && (options.mtu || !place.software))
		mtu = fabric->mtu;
	modify(end, &attr, 0);
	end_init(end, fabric, type);
	attr = (struct ibv_qp_attr){
		.qp_state = IBV_QPS_RTR,
		.path_mtu = mtu,
		.dest_qp_num = remote->qp_num,
		.rq_psn = PSN,
		.max_dest_rd_atomic = 4,
		.min_rnr_timer = 1,
		.ah_attr = way(fabric, remote),
	};
	if (type == IBV_QPT_UD)
		connected = reliable = 0;
	if (type == IBV_QPT_UC)
		reliable = 0;
	modify(end, &attr, connected | reliable);
	attr = (struct ibv_qp_attr){ .qp_state = IBV_QPS_RTS,
				     .timeout = 16,
				     .retry_cnt = retries,
				     .rnr_retry = 7,
				     .sq_psn = PSN,
				     .max_rd_atomic = 4 };
	if (type == IBV_QPT_RC)
		reliable = IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT |
			   IBV_QP_RNR_RETRY | IBV_QP_MAX_QP_RD_ATOMIC;
	modify(end, &attr, IBV_QP_SQ_PSN | reliable);
}

void pair_make(struct pair *pair, const struct fabric *fabric,
	       enum ibv_qp_type type, enum ibv_mtu mtu, bool srq)
{
	struct contact near, far;
	struct ibv_ah_attr attr;

	*pair = (struct pair){ .type = type, .mtu = mtu };
	end_make(&pair->near, fabric, type, false);
	end_make(&pair->far, fabric, type, srq);
	near = end_contact(&pair->near, fabric);
	far = end_contact(&pair->far, fabric);
	end_connect(&pair->near, fabric, type, mtu, &far, RETRIES);
	end_connect(&pair->far, fabric, type, mtu, &near, RETRIES);
	if (type == IBV_QPT_UD) {
		attr = way(fabric, &far);
		pair->near.ah = ibv_create_ah(fabric->pd, &attr);
		if (!pair->near.ah)
			wrong("no address handle: %s", strerror(errno));
	}
}

void end_destroy(struct end *end)
{
	if (end->ah)
		ibv_destroy_ah(end->ah);
	if (ibv_destroy_qp(end->qp))
		wrong("queue pair not destroyed");
	if (end->srq)
		ibv_destroy_srq(end->srq);
	ibv_destroy_cq(end->cq);
}

void pair_destroy(struct pair *pair)
{
	end_destroy(&pair->near);
	end_destroy(&pair->far);
}

static double seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec + now.tv_nsec / 1e9;
}

struct ibv_wc end_wait(struct end *end, const char *whose)
{
	double allowed = DEADLINE_SECONDS * options.timeout_scale;
	double late = seconds() + allowed;
	struct ibv_wc wc;
	int nr;

	while (!(nr = ibv_poll_cq(end->cq, 1, &wc)))
		if (seconds() > late)
			wrong("no completion at the %s in %.0f s", whose,
			      allowed);
	if (nr < 0)
		wrong("poll failed at the %s", whose);
	return wc;
}

struct ibv_wc end_wait_success(struct end *end, const char *whose)
{
	struct ibv_wc wc = end_wait(end, whose);

	if (wc.status != IBV_WC_SUCCESS)
		wrong("completion at the %s: %s", whose,
		      ibv_wc_status_str(wc.status));
	return wc;
}

void post_receive(struct end *end, struct ibv_sge *sges, int nr)
{
	struct ibv_recv_wr wr = { .sg_list = sges, .num_sge = nr }, *bad;
	int ret = end->srq ? ibv_post_srq_recv(end->srq, &wr, &bad) :
			     ibv_post_recv(end->qp, &wr, &bad);

	if (ret)
		wrong("receive not posted: %s", strerror(ret));
}
