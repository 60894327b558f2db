/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Copyright (c) 2026 The Twostep authors */
/*
 * A device, and pairs of queue pairs on it that talk to each other.
 */
#ifndef FABRIC_H
#define FABRIC_H

#include <infiniband/verbs.h>
#include <stdbool.h>

#define MAX_SGE 4
#define MAX_INLINE 256

/**
 * struct fabric - a device in use
 * @context: the device
 * @pd: everything is in it
 * @port: its number
 * @gid_index: in the port's table
 * @gid: there
 * @lid: of the port, 0 of an Ethernet's
 * @mtu: of the port
 * @attr: what the device can
 */
struct fabric {
	struct ibv_context *context;
	struct ibv_pd *pd;
	uint8_t port;
	int gid_index;
	union ibv_gid gid;
	uint16_t lid;
	enum ibv_mtu mtu;
	struct ibv_device_attr_ex attr;
};

/**
 * struct end - one side of a pair
 * @cq: for sends and receives
 * @qp: the queue pair
 * @ex: the same, for posting sends
 * @srq: what it receives from, or NULL
 * @ah: the way to the other side, for UD
 */
struct end {
	struct ibv_cq *cq;
	struct ibv_qp *qp;
	struct ibv_qp_ex *ex;
	struct ibv_srq *srq;
	struct ibv_ah *ah;
};

/**
 * struct pair - two queue pairs, connected if their type is
 * @type: IBV_QPT_RC, _UC or _UD
 * @mtu: the path's
 * @near: posts sends
 * @far: has the memory that they reach, or posts receives
 */
struct pair {
	enum ibv_qp_type type;
	enum ibv_mtu mtu;
	struct end near, far;
};

#define QKEY 0x11111111

/* Tries of a packet that is not answered. Soft-RoCE takes 7 for endless. */
#define RETRIES 7

/**
 * struct contact - what another process must know to connect to an end
 * @qp_num: the queue pair
 * @lid: of its port
 * @gid: of its port
 */
struct contact {
	uint32_t qp_num;
	uint16_t lid;
	union ibv_gid gid;
};

/* Open the device of the place, or end the test. */
void fabric_open(struct fabric *fabric);

/* The same, and skip the test if it has no on-demand paging for a type of queue pair. */
void fabric_open_odp(struct fabric *fabric, enum ibv_qp_type type);

/* Skip the test if the device has no MR of the whole address space. */
void need_implicit(const struct fabric *fabric);

/* When nothing of it is in use any more. */
void fabric_close(struct fabric *fabric);

/* The bits of odp_caps for a type of queue pair. */
uint32_t odp_caps(const struct fabric *fabric, enum ibv_qp_type type);

/* One end alone. With @srq it receives from one. */
void end_make(struct end *end, const struct fabric *fabric,
	      enum ibv_qp_type type, bool srq);
void end_destroy(struct end *end);

struct contact end_contact(const struct end *end, const struct fabric *fabric);

/* From whatever state to ready to send, to an end of any process. */
void end_connect(struct end *end, const struct fabric *fabric,
		 enum ibv_qp_type type, enum ibv_mtu mtu,
		 const struct contact *remote, unsigned int retries);

/* Make and connect a pair, ready to send. With @srq the far end receives from one. */
void pair_make(struct pair *pair, const struct fabric *fabric,
	       enum ibv_qp_type type, enum ibv_mtu mtu, bool srq);
void pair_destroy(struct pair *pair);

/* Bytes of a packet's payload. */
unsigned int mtu_bytes(enum ibv_mtu mtu);

/* Wait for a completion, or end the test after some seconds. */
struct ibv_wc end_wait(struct end *end, const char *whose);

/* The same, of success. */
struct ibv_wc end_wait_success(struct end *end, const char *whose);

void post_receive(struct end *end, struct ibv_sge *sges, int nr);

#endif /* FABRIC_H */
