// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
// Copyright (c) 2026 The Twostep authors
/*
 * rdma-data: are the bytes right that an RDMA operation moves?
 *
 * One process, one device, two connected RC queue pairs. Every transfer goes
 * from a source region to a target region, at the same or different page
 * offsets, and afterwards the whole target region is compared with what it
 * must hold: the pattern where the transfer went, the filling everywhere else.
 * Pattern and filling depend on the position and the number of the transfer,
 * so a byte that is stale, shifted or repeated cannot look right.
 *
 * Ordinary memory is on the source side of every transfer, the memory asked
 * for on the side that the responder reaches: the target of a write and of a
 * send, the source of a read.
 *
 * Output: one line, "exact TRANSFERS" with status 0, or "wrong WRONG_BYTES of
 * BYTES in BAD_TRANSFERS of TRANSFERS transfers, first ..." with status 1, or
 * "refused ..." with status 2 when the device does not offer what was asked.
 *
 * -P plants one wrong byte before the last comparison, to see the check fail.
 */
#include <errno.h>
#include <getopt.h>
#include <infiniband/verbs.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096UL
/* the longest transfer, its offset and guards */
#define REGION ((1UL << 20) + 3 * PAGE)
#define DEADLINE_SECONDS 10

enum operation { WRITE, READ, SEND };

static const char *const operation_names[] = { "write", "read", "send" };
static const unsigned long offsets[] = { 0, 1, 7, 8, 63, 64, 4088, 4095 };
static const unsigned long lengths[] = { 1,    8,    1023, 1024,  1025,
					 4095, 4096, 4097, 65536, 1 << 20 };

#define COUNT(array) (sizeof(array) / sizeof(*(array)))
#define TRANSFERS (COUNT(offsets) * COUNT(lengths))

struct region {
	uint8_t *bytes;
	struct ibv_mr *mr;
};

struct peer {
	struct ibv_cq *cq;
	struct ibv_qp *qp;
};

struct fabric {
	struct ibv_context *context;
	struct ibv_pd *pd;
	int gid_index;
	union ibv_gid gid;
	struct ibv_port_attr port;
	struct peer requester, responder;
};

__attribute__((noreturn, format(printf, 2, 3))) static void
stop(int status, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vprintf(format, arguments);
	va_end(arguments);
	printf("\n");
	exit(status);
}

static uint8_t pattern(unsigned long transfer, unsigned long at)
{
	uint64_t x = (transfer + 1) * 0x9e3779b97f4a7c15ULL ^
		     (at + 1) * 0xbf58476d1ce4e5b9ULL;

	x ^= x >> 29;
	x *= 0x94d049bb133111ebULL;
	return x >> 56;
}

static struct ibv_context *open_device(const char *name)
{
	struct ibv_device **list = ibv_get_device_list(NULL);
	struct ibv_context *context = NULL;

	for (int i = 0; list && list[i]; i++)
		if (!strcmp(ibv_get_device_name(list[i]), name))
			context = ibv_open_device(list[i]);
	if (!context)
		stop(2, "refused: no device %s", name);
	ibv_free_device_list(list);
	return context;
}

static struct peer make_peer(struct fabric *fabric)
{
	struct peer peer;
	struct ibv_qp_init_attr init = {
		.qp_type = IBV_QPT_RC,
		.cap = { .max_send_wr = 4,
			 .max_recv_wr = 4,
			 .max_send_sge = 1,
			 .max_recv_sge = 1 },
		.sq_sig_all = 1,
	};

	peer.cq = ibv_create_cq(fabric->context, 16, NULL, NULL, 0);
	if (!peer.cq)
		stop(2, "refused: no completion queue: %s", strerror(errno));
	init.send_cq = peer.cq;
	init.recv_cq = peer.cq;
	peer.qp = ibv_create_qp(fabric->pd, &init);
	if (!peer.qp)
		stop(2, "refused: no queue pair: %s", strerror(errno));
	return peer;
}

static void connect_peer(struct fabric *fabric, struct peer *peer,
			 struct peer *other)
{
	struct ibv_qp_attr attr = {
		.qp_state = IBV_QPS_INIT,
		.port_num = 1,
		.qp_access_flags = IBV_ACCESS_LOCAL_WRITE |
				   IBV_ACCESS_REMOTE_WRITE |
				   IBV_ACCESS_REMOTE_READ,
	};

	if (ibv_modify_qp(peer->qp, &attr,
			  IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT |
				  IBV_QP_ACCESS_FLAGS))
		stop(2, "refused: queue pair to INIT: %s", strerror(errno));
	attr = (struct ibv_qp_attr){
		.qp_state = IBV_QPS_RTR,
		.path_mtu = fabric->port.active_mtu,
		.dest_qp_num = other->qp->qp_num,
		.rq_psn = 17,
		.max_dest_rd_atomic = 1,
		.min_rnr_timer = 1,
		.ah_attr = { .is_global = 1,
			     .port_num = 1,
			     .grh = { .dgid = fabric->gid,
				      .sgid_index = fabric->gid_index,
				      .hop_limit = 4 } },
	};
	if (ibv_modify_qp(peer->qp, &attr,
			  IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU |
				  IBV_QP_DEST_QPN | IBV_QP_RQ_PSN |
				  IBV_QP_MAX_DEST_RD_ATOMIC |
				  IBV_QP_MIN_RNR_TIMER))
		stop(2, "refused: queue pair to RTR: %s", strerror(errno));
	attr = (struct ibv_qp_attr){ .qp_state = IBV_QPS_RTS,
				     .timeout = 14,
				     .retry_cnt = 7,
				     .rnr_retry = 7,
				     .sq_psn = 17,
				     .max_rd_atomic = 1 };
	if (ibv_modify_qp(peer->qp, &attr,
			  IBV_QP_STATE | IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT |
				  IBV_QP_RNR_RETRY | IBV_QP_SQ_PSN |
				  IBV_QP_MAX_QP_RD_ATOMIC))
		stop(2, "refused: queue pair to RTS: %s", strerror(errno));
}

static void require_odp(struct fabric *fabric, enum operation operation)
{
	static const uint32_t needed[] = { IBV_ODP_SUPPORT_WRITE,
					   IBV_ODP_SUPPORT_READ,
					   IBV_ODP_SUPPORT_RECV };
	struct ibv_device_attr_ex attr;

	if (ibv_query_device_ex(fabric->context, NULL, &attr) ||
	    !(attr.odp_caps.general_caps & IBV_ODP_SUPPORT) ||
	    !(attr.odp_caps.per_transport_caps.rc_odp_caps & needed[operation]))
		stop(2, "refused: the device does not offer ODP for RC %s",
		     operation_names[operation]);
}

static struct region make_region(struct fabric *fabric, bool odp)
{
	int access = IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE |
		     IBV_ACCESS_REMOTE_READ;
	struct region region;

	region.bytes = mmap(NULL, REGION, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (region.bytes == MAP_FAILED)
		stop(2, "refused: no memory");
	region.mr = ibv_reg_mr(fabric->pd, region.bytes, REGION,
			       access | (odp ? IBV_ACCESS_ON_DEMAND : 0));
	if (!region.mr)
		stop(2, "refused: ibv_reg_mr: %s", strerror(errno));
	return region;
}

/* Waits for one successful completion. */
static void complete(struct peer *peer, const char *whose,
		     enum operation operation)
{
	time_t end = time(NULL) + DEADLINE_SECONDS;
	struct ibv_wc wc;
	int n;

	while (!(n = ibv_poll_cq(peer->cq, 1, &wc)))
		if (time(NULL) > end)
			stop(1,
			     "wrong: no completion at the %s of a %s within %d s",
			     whose, operation_names[operation],
			     DEADLINE_SECONDS);
	if (n < 0 || wc.status != IBV_WC_SUCCESS)
		stop(1, "wrong: completion at the %s of a %s: %s", whose,
		     operation_names[operation],
		     n < 0 ? "poll failed" : ibv_wc_status_str(wc.status));
}

static void transfer(struct fabric *fabric, enum operation operation,
		     struct region *source, unsigned long source_at,
		     struct region *target, unsigned long target_at,
		     unsigned long length)
{
	bool pull = operation == READ;
	struct region *local = pull ? target : source,
		      *remote = pull ? source : target;
	unsigned long local_at = pull ? target_at : source_at;
	unsigned long remote_at = pull ? source_at : target_at;
	struct ibv_sge sge = { (uintptr_t)local->bytes + local_at, length,
			       local->mr->lkey };
	struct ibv_sge into = { (uintptr_t)remote->bytes + remote_at, length,
				remote->mr->lkey };
	struct ibv_send_wr wr = { .sg_list = &sge, .num_sge = 1 }, *bad;
	struct ibv_recv_wr recv = { .sg_list = &into, .num_sge = 1 }, *bad_recv;

	wr.opcode = pull	       ? IBV_WR_RDMA_READ :
		    operation == WRITE ? IBV_WR_RDMA_WRITE :
					 IBV_WR_SEND;
	wr.wr.rdma.remote_addr = (uintptr_t)remote->bytes + remote_at;
	wr.wr.rdma.rkey = remote->mr->rkey;
	if (operation == SEND &&
	    ibv_post_recv(fabric->responder.qp, &recv, &bad_recv))
		stop(1, "wrong: ibv_post_recv: %s", strerror(errno));
	if (ibv_post_send(fabric->requester.qp, &wr, &bad))
		stop(1, "wrong: ibv_post_send: %s", strerror(errno));
	complete(&fabric->requester, "requester", operation);
	if (operation == SEND)
		complete(&fabric->responder, "responder", operation);
}

struct tally {
	unsigned long transfers, bad_transfers, bytes, wrong_bytes;
	char first[160];
};

/* Compares the whole target, guard bytes included. */
static void compare(struct tally *tally, struct region *target,
		    unsigned long at, unsigned long length)
{
	unsigned long number = tally->transfers, wrong = 0, first = 0;

	for (unsigned long i = 0; i < REGION; i++) {
		bool inside = i >= at && i < at + length;
		uint8_t want = inside ? pattern(number, i - at) :
					(uint8_t)~pattern(number, i);

		if (target->bytes[i] != want && !wrong++)
			first = i;
	}
	tally->transfers++;
	tally->bytes += length;
	tally->wrong_bytes += wrong;
	if (!wrong)
		return;
	if (!tally->bad_transfers++)
		snprintf(
			tally->first, sizeof(tally->first),
			"%lu byte(s) to page offset %lu, wrong from byte %ld of them on",
			length, at % PAGE, (long)(first - at));
}

static void fill(struct tally *tally, struct region *source,
		 unsigned long source_at, struct region *target,
		 unsigned long target_at, unsigned long length)
{
	for (unsigned long i = 0; i < REGION; i++)
		target->bytes[i] = ~pattern(tally->transfers, i);
	for (unsigned long i = 0; i < length; i++) {
		source->bytes[source_at + i] = pattern(tally->transfers, i);
		/* what is not written must differ in every bit */
		target->bytes[target_at + i] = ~pattern(tally->transfers, i);
	}
}

int main(int argc, char **argv)
{
	struct fabric fabric = { .gid_index = 1 };
	const char *device = "rxe0";
	enum operation operation = WRITE;
	struct region near, far;
	struct tally tally = { 0 };
	bool odp = false, plant = false;
	int option;

	while ((option = getopt(argc, argv, "d:x:o:OP")) != -1) {
		if (option == 'd')
			device = optarg;
		else if (option == 'x')
			fabric.gid_index = atoi(optarg);
		else if (option == 'O')
			odp = true;
		else if (option == 'P')
			plant = true;
		else if (option == 'o' && !strcmp(optarg, "write"))
			operation = WRITE;
		else if (option == 'o' && !strcmp(optarg, "read"))
			operation = READ;
		else if (option == 'o' && !strcmp(optarg, "send"))
			operation = SEND;
		else
			stop(2,
			     "refused: usage: rdma-data [-d DEVICE] [-x GID_INDEX] "
			     "[-o write|read|send] [-O] [-P]");
	}

	fabric.context = open_device(device);
	fabric.pd = ibv_alloc_pd(fabric.context);
	if (!fabric.pd || ibv_query_port(fabric.context, 1, &fabric.port) ||
	    ibv_query_gid(fabric.context, 1, fabric.gid_index, &fabric.gid))
		stop(2, "refused: port 1 of %s has no GID %d", device,
		     fabric.gid_index);
	if (odp)
		require_odp(&fabric, operation);
	fabric.requester = make_peer(&fabric);
	fabric.responder = make_peer(&fabric);
	connect_peer(&fabric, &fabric.requester, &fabric.responder);
	connect_peer(&fabric, &fabric.responder, &fabric.requester);

	near = make_region(&fabric, false);
	far = make_region(&fabric, odp);
	for (size_t l = 0; l < COUNT(lengths); l++)
		for (size_t o = 0; o < COUNT(offsets); o++) {
			/* The far side has the offset under test, the near side another. */
			unsigned long far_at = PAGE + offsets[o];
			unsigned long near_at =
				PAGE + (offsets[o] * 3 + 5) % PAGE;
			bool pull = operation == READ;
			struct region *source = pull ? &far : &near,
				      *target = pull ? &near : &far;
			unsigned long source_at = pull ? far_at : near_at;
			unsigned long target_at = pull ? near_at : far_at;

			fill(&tally, source, source_at, target, target_at,
			     lengths[l]);
			transfer(&fabric, operation, source, source_at, target,
				 target_at, lengths[l]);
			if (plant && tally.transfers == TRANSFERS - 1)
				target->bytes[target_at + lengths[l] - 1] ^= 1;
			compare(&tally, target, target_at, lengths[l]);
		}

	if (tally.bad_transfers)
		stop(1,
		     "wrong %lu of %lu bytes in %lu of %lu transfers, first: %s",
		     tally.wrong_bytes, tally.bytes, tally.bad_transfers,
		     tally.transfers, tally.first);
	stop(0, "exact %lu", tally.transfers);
}
