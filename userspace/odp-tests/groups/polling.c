// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
// Copyright (c) 2026 The Twostep authors
/*
 * who polls a completion queue by ibv_start_poll() has it for himself until
 * ibv_end_poll(), as ibv_create_cq_ex(3) says.
 */
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <time.h>

#include "fabric.h"
#include "suite.h"

#define WR_ID 7

/* A receive that is flushed: a completion that needs no peer. */
static struct ibv_qp *make_completion(struct fabric *fabric, struct ibv_cq *cq)
{
	struct ibv_qp_init_attr init = { .send_cq = cq,
					 .recv_cq = cq,
					 .cap = { 1, 1, 1, 1, 0 },
					 .qp_type = IBV_QPT_RC };
	struct ibv_qp_attr attr = { .qp_state = IBV_QPS_INIT,
				    .port_num = fabric->port };
	struct ibv_recv_wr wr = { .wr_id = WR_ID }, *bad;
	struct ibv_qp *qp = ibv_create_qp(fabric->pd, &init);

	if (!qp)
		wrong("no queue pair: %s", strerror(errno));
	if (ibv_modify_qp(qp, &attr,
			  IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT |
				  IBV_QP_ACCESS_FLAGS) ||
	    ibv_post_recv(qp, &wr, &bad))
		wrong("nothing is posted");
	attr.qp_state = IBV_QPS_ERR;
	if (ibv_modify_qp(qp, &attr, IBV_QP_STATE))
		wrong("the queue pair does not end");
	return qp;
}

static void *poll_once(void *arg)
{
	static int found;
	struct ibv_wc wc;

	found = ibv_poll_cq(arg, 1, &wc);
	return &found;
}

/* Between the end of the queue and ibv_end_poll() another thread waits, and finds nothing. */
static void a_completion_comes_once(const void *what)
{
	const struct timespec moment = { .tv_nsec = 50000000 };
	struct ibv_cq_init_attr_ex init = { .cqe = 16 };
	struct ibv_poll_cq_attr attr = {};
	struct fabric fabric;
	struct ibv_cq_ex *cq;
	struct ibv_qp *qp;
	pthread_t thread;
	void *found;
	int ret;

	(void)what;
	fabric_open_odp(&fabric, IBV_QPT_RC);
	cq = ibv_create_cq_ex(fabric.context, &init);
	if (!cq)
		wrong("no completion queue: %s", strerror(errno));
	qp = make_completion(&fabric, ibv_cq_ex_to_cq(cq));
	do {
		ret = ibv_start_poll(cq, &attr);
	} while (ret == ENOENT);
	if (ret || cq->wr_id != WR_ID || cq->status != IBV_WC_WR_FLUSH_ERR)
		wrong("not the receive that was flushed");
	ret = ibv_next_poll(cq);
	if (ret != ENOENT)
		wrong("behind the last completion: %d", ret);
	if (pthread_create(&thread, NULL, poll_once, ibv_cq_ex_to_cq(cq)))
		wrong("no thread");
	/* Time to do what it must not. */
	nanosleep(&moment, NULL);
	ibv_end_poll(cq);
	pthread_join(thread, &found);
	if (*(int *)found)
		wrong("the completion came twice");
	ibv_destroy_qp(qp);
	ibv_destroy_cq(ibv_cq_ex_to_cq(cq));
}

static const struct test tests[] = {
	{ "rc.a_completion_comes_once", a_completion_comes_once, NULL },
};

TESTS(tests)
