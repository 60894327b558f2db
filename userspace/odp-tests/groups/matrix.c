// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
// Copyright (c) 2026 The Twostep authors
/*
 * every operation on on-demand paging memory moves every byte right.
 *
 * A test is an operation and an MTU. It goes through all page offsets and lengths of the
 * tables below (the longest once), each with a draw of the rest: which side is on demand (the
 * near one, that posts the operation, the far one, or both), how many pieces on either side
 * and whether they are on demand or pinned, which pages the device has, inline or not. Each
 * piece of a list has an offset of its own.
 *
 * Lengths, offsets and pieces are those of a message: where a transport or an operation cannot
 * have them (8 bytes of an atomic, one packet of UD) they are cut.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fabric.h"
#include "newer.h"
#include "place.h"
#include "region.h"
#include "suite.h"

/* The longest message, with a page of guard before and at least one behind. */
#define LONGEST (1UL << 20)
#define REGION (LONGEST + 3 * PAGE)
#define GRH 40

enum operation {
	SEND,
	SEND_IMM,
	WRITE,
	WRITE_IMM,
	READ,
	SWAP,
	ADD,
	ATOMIC_WRITE,
	FLUSH,
};

static const size_t offsets[] = { 0, 1, 7, 8, 63, 64, 4088, 4095 };

/* 0: a packet; 1: a packet and a byte. */
static const size_t lengths[] = { 0,	1,    8,     4095,   4096,
				  4097, 9000, 65536, LONGEST };

/**
 * struct piece - a part of a message's memory
 * @region: where
 * @at: first byte
 * @length: bytes
 */
struct piece {
	struct region *region;
	size_t at;
	size_t length;
};

/**
 * struct message - what is moved
 * @near: the poster's memory; nothing for an operation that has none
 * @far: what it reaches: a piece, or what a receive has
 * @nr_near: how many pieces
 * @nr_far: how many pieces
 * @length: bytes
 */
struct message {
	struct piece near[MAX_SGE], far[MAX_SGE];
	int nr_near, nr_far;
	size_t length;
};

/**
 * struct stage - what a test's transfers have in common
 * @fabric: the device
 * @pair: two queue pairs
 * @operation: what is posted
 * @near: regions of the near side: one for each piece, on demand and pinned in turn
 * @far: the same of the far side
 * @number: of the transfer
 */
struct stage {
	struct fabric fabric;
	struct pair pair;
	enum operation operation;
	struct region near[MAX_SGE], far[MAX_SGE];
	unsigned long number;
};

static bool is_atomic(enum operation operation)
{
	return operation == SWAP || operation == ADD ||
	       operation == ATOMIC_WRITE;
}

static bool is_send(enum operation operation)
{
	return operation == SEND || operation == SEND_IMM;
}

static bool has_immediate(enum operation operation)
{
	return operation == SEND_IMM || operation == WRITE_IMM;
}

/* What the device must announce. */
static uint32_t caps_of(enum operation operation, bool srq)
{
	static const uint32_t caps[] = {
		[SEND] = IBV_ODP_SUPPORT_SEND | IBV_ODP_SUPPORT_RECV,
		[SEND_IMM] = IBV_ODP_SUPPORT_SEND | IBV_ODP_SUPPORT_RECV,
		[WRITE] = IBV_ODP_SUPPORT_WRITE,
		[WRITE_IMM] = IBV_ODP_SUPPORT_WRITE,
		[READ] = IBV_ODP_SUPPORT_READ,
		[SWAP] = IBV_ODP_SUPPORT_ATOMIC,
		[ADD] = IBV_ODP_SUPPORT_ATOMIC,
		[ATOMIC_WRITE] = ODP_SUPPORT_ATOMIC_WRITE,
		[FLUSH] = ODP_SUPPORT_FLUSH,
	};

	return caps[operation] | (srq ? IBV_ODP_SUPPORT_SRQ_RECV : 0);
}

static void open_stage(struct stage *stage, enum ibv_qp_type type,
		       enum operation operation, enum ibv_mtu mtu, bool srq)
{
	uint32_t caps = caps_of(operation, srq);
	int access = ALL_ACCESS;

	stage->operation = operation;
	fabric_open_odp(&stage->fabric, type);
	if ((odp_caps(&stage->fabric, type) & caps) != caps)
		skip(place.software ? KERNEL : DEVICE,
		     "%s does not announce this operation on demand",
		     place.device);
	if (mtu > place.mtu && !place.software)
		skip(MACHINE, "the port's MTU is %u", mtu_bytes(place.mtu));
	if (operation == FLUSH)
		access |= IBV_ACCESS_FLUSH_GLOBAL;
	pair_make(&stage->pair, &stage->fabric, type, mtu, srq);
	for (int i = 0; i < MAX_SGE; i++) {
		int odp = i % 2 ? 0 : IBV_ACCESS_ON_DEMAND;

		region_make(&stage->near[i], &stage->fabric, REGION,
			    access | odp);
		region_make(&stage->far[i], &stage->fabric, REGION,
			    access | odp);
	}
}

static void close_stage(struct stage *stage)
{
	pair_destroy(&stage->pair);
	for (int i = 0; i < MAX_SGE; i++) {
		region_destroy(&stage->near[i]);
		region_destroy(&stage->far[i]);
	}
}

/*
 * Cut LENGTH bytes into up to MAX_SGE pieces. The first piece begins at OFFSET in a page, of a
 * region on demand if ODP. Pieces that are to be written must not lie over each other: each is
 * in a region of its own.
 */
static int cut(struct piece *pieces, struct region *regions, bool odp,
	       size_t offset, size_t length, int most)
{
	int nr = 1 + below(most), first = odp ? 0 : 1;
	size_t left = length;

	for (int i = 0; i < nr; i++) {
		size_t part = i == nr - 1 ? left : below(left + 1);

		pieces[i] = (struct piece){
			.region = &regions[(first + i) % MAX_SGE],
			.at = PAGE + (i ? below(PAGE) : offset),
			.length = part,
		};
		left -= part;
	}
	return nr;
}

static void draw_message(struct stage *stage, struct message *message,
			 size_t offset, size_t length)
{
	enum ibv_qp_type type = stage->pair.type;
	size_t packet = mtu_bytes(stage->pair.mtu);
	size_t datagram = mtu_bytes(stage->fabric.mtu);
	bool far_odp = below(3), near_odp = !far_odp || below(2);
	size_t near_offset = below(PAGE);

	if (length < 2)
		length += packet;
	if (type == IBV_QPT_UD && length > datagram)
		length = datagram;
	if (is_atomic(stage->operation)) {
		length = 8;
		offset &= ~7UL;
	}
	/* The offset that the table asks for is on the side that is on demand. */
	if (!far_odp) {
		size_t other = is_atomic(stage->operation) ?
				       near_offset & ~7UL :
				       near_offset;

		near_offset = offset;
		offset = other;
	}
	message->length = length;
	message->nr_near =
		stage->operation == FLUSH ?
			0 :
			cut(message->near, stage->near, near_odp, near_offset,
			    length, is_atomic(stage->operation) ? 1 : MAX_SGE);
	message->nr_far = cut(message->far, stage->far, far_odp, offset,
			      length + (type == IBV_QPT_UD ? GRH : 0),
			      is_send(stage->operation) ? MAX_SGE : 1);
}

static void prepare_piece(struct piece *piece, bool may_be_empty)
{
	if (piece->region->odp)
		region_prepare(piece->region,
			       below(may_be_empty ? EMPTY + 1 : EMPTY));
}

/* New bytes at the source, and any pages away from the device. */
static void prepare(struct stage *stage, struct message *message)
{
	bool pull = stage->operation == READ;
	struct piece *from = pull ? message->far : message->near;
	struct piece *to = pull ? message->near : message->far;
	int nr_from = pull ? message->nr_far : message->nr_near;
	int nr_to = pull ? message->nr_near : message->nr_far;
	bool kept = is_atomic(stage->operation) || stage->operation == FLUSH;

	for (int i = 0; i < nr_to; i++)
		prepare_piece(&to[i], !kept);
	for (int i = 0; i < nr_from; i++) {
		region_fill(from[i].region, from[i].at, from[i].length);
		prepare_piece(&from[i], false);
	}
}

/*
 * With ibv_post_send(): the rxe provider of rdma-core 56.1 takes the first piece's length for
 * that of all when a list is set by ibv_wr_set_sge_list().
 */
static int post_list(struct stage *stage, const struct message *message,
		     uint32_t immediate, const uint64_t *operand)
{
	static const enum ibv_wr_opcode opcodes[] = {
		[SEND] = IBV_WR_SEND,
		[SEND_IMM] = IBV_WR_SEND_WITH_IMM,
		[WRITE] = IBV_WR_RDMA_WRITE,
		[WRITE_IMM] = IBV_WR_RDMA_WRITE_WITH_IMM,
		[READ] = IBV_WR_RDMA_READ,
		[SWAP] = IBV_WR_ATOMIC_CMP_AND_SWP,
		[ADD] = IBV_WR_ATOMIC_FETCH_AND_ADD,
	};
	const struct piece *far = &message->far[0];
	uint64_t at = far->region->iova + far->at;
	struct ibv_sge sges[MAX_SGE];
	struct ibv_send_wr wr = {
		.wr_id = stage->number,
		.sg_list = sges,
		.num_sge = message->nr_near,
		.opcode = opcodes[stage->operation],
		.imm_data = htonl(immediate),
	}, *bad;

	for (int i = 0; i < message->nr_near; i++)
		sges[i] = region_sge(message->near[i].region,
				     message->near[i].at,
				     message->near[i].length);
	if (stage->operation <= WRITE_IMM && message->length <= MAX_INLINE &&
	    !below(4))
		wr.send_flags |= IBV_SEND_INLINE;
	if (stage->pair.type == IBV_QPT_UD) {
		wr.wr.ud.ah = stage->pair.near.ah;
		wr.wr.ud.remote_qpn = stage->pair.far.qp->qp_num;
		wr.wr.ud.remote_qkey = QKEY;
	} else if (is_atomic(stage->operation)) {
		wr.wr.atomic.remote_addr = at;
		wr.wr.atomic.rkey = far->region->mr->rkey;
		wr.wr.atomic.compare_add = operand[stage->operation == ADD];
		wr.wr.atomic.swap = operand[1];
	} else {
		wr.wr.rdma.remote_addr = at;
		wr.wr.rdma.rkey = far->region->mr->rkey;
	}
	return ibv_post_send(stage->pair.near.qp, &wr, &bad);
}

/* The operations that ibv_post_send() does not have. */
static int post_extended(struct stage *stage, const struct message *message,
			 const uint64_t *operand)
{
	struct ibv_qp_ex *ex = stage->pair.near.ex;
	const struct piece *far = &message->far[0];
	uint64_t at = far->region->iova + far->at;
	uint32_t rkey = far->region->mr->rkey;

	ibv_wr_start(ex);
	ex->wr_id = stage->number;
	if (stage->operation == FLUSH)
		ibv_wr_flush(ex, rkey, at, message->length, IBV_FLUSH_GLOBAL,
			     IBV_FLUSH_RANGE);
	else
		ibv_wr_atomic_write(ex, rkey, at, &operand[1]);
	return ibv_wr_complete(ex);
}

static void post(struct stage *stage, const struct message *message,
		 uint32_t immediate, const uint64_t *operand)
{
	int ret = stage->operation >= ATOMIC_WRITE ?
			  post_extended(stage, message, operand) :
			  post_list(stage, message, immediate, operand);

	if (ret)
		wrong("not posted: %s", strerror(ret));
}

/* Book what a message must have moved, byte by byte from list to list. */
static void book_copy(const struct piece *from, int nr_from,
		      const struct piece *to, int nr_to)
{
	size_t from_done = 0, to_done = 0, part;

	while (nr_from && nr_to) {
		part = from->length - from_done;
		if (part > to->length - to_done)
			part = to->length - to_done;
		region_copied(to->region, to->at + to_done, from->region,
			      from->at + from_done, part);
		from_done += part;
		to_done += part;
		if (from_done == from->length) {
			from++, nr_from--, from_done = 0;
		} else {
			to++, nr_to--, to_done = 0;
		}
		if (nr_to && to_done == to->length)
			to++, nr_to--, to_done = 0;
	}
}

/* The first 40 bytes of a datagram's receive are a header: as it came, if it is there. */
static void book_header(struct message *message)
{
	size_t left = GRH;

	for (struct piece *piece = message->far; left; piece++) {
		size_t part = piece->length < left ? piece->length : left;

		memcpy(piece->region->want + piece->at,
		       piece->region->bytes + piece->at, part);
		piece->at += part;
		piece->length -= part;
		left -= part;
	}
	/* What is left begins with the message. */
	while (message->nr_far > 1 && !message->far[0].length) {
		memmove(message->far, message->far + 1,
			--message->nr_far * sizeof(*message->far));
	}
}

static void book_atomic(struct stage *stage, const struct message *message,
			const uint64_t *operand)
{
	const struct piece *near = &message->near[0], *far = &message->far[0];
	uint64_t value, result = operand[1];

	memcpy(&value, far->region->want + far->at, 8);
	if (stage->operation == ADD)
		result = value + operand[1];
	if (stage->operation == SWAP && value != operand[0])
		result = value;
	memcpy(far->region->want + far->at, &result, 8);
	if (stage->operation != ATOMIC_WRITE)
		memcpy(near->region->want + near->at, &value, 8);
}

static void book(struct stage *stage, struct message message,
		 const uint64_t *operand)
{
	if (stage->operation == FLUSH)
		return;
	if (is_atomic(stage->operation)) {
		book_atomic(stage, &message, operand);
	} else if (stage->operation == READ) {
		book_copy(message.far, message.nr_far, message.near,
			  message.nr_near);
	} else {
		if (stage->pair.type == IBV_QPT_UD)
			book_header(&message);
		book_copy(message.near, message.nr_near, message.far,
			  message.nr_far);
	}
}

static void check_receive(struct stage *stage, const struct message *message,
			  uint32_t immediate)
{
	struct ibv_wc wc = end_wait_success(&stage->pair.far, "receiver");
	size_t length =
		message->length + (stage->pair.type == IBV_QPT_UD ? GRH : 0);

	if (wc.byte_len != length)
		wrong("%u bytes received instead of %zu", wc.byte_len, length);
	if (!has_immediate(stage->operation) !=
	    !(wc.wc_flags & IBV_WC_WITH_IMM))
		wrong("flags of the receive: %#x", wc.wc_flags);
	if (has_immediate(stage->operation) && ntohl(wc.imm_data) != immediate)
		wrong("immediate %#x instead of %#x", ntohl(wc.imm_data),
		      immediate);
}

static void one_transfer(struct stage *stage, size_t offset, size_t length)
{
	uint32_t immediate = draw();
	struct ibv_sge sges[MAX_SGE];
	struct message message;
	uint64_t operand[2];

	draw_message(stage, &message, offset, length);
	snprintf(doing, sizeof(doing),
		 "transfer %lu, %zu bytes in %d pieces to %d, offset %zu",
		 stage->number, message.length, message.nr_near, message.nr_far,
		 offset);
	prepare(stage, &message);
	/* Half of the comparisons find what they look for. */
	memcpy(&operand[0], message.far[0].region->want + message.far[0].at, 8);
	operand[0] += below(2);
	operand[1] = draw();
	if (is_send(stage->operation) || stage->operation == WRITE_IMM) {
		int nr = is_send(stage->operation) ? message.nr_far : 0;

		for (int i = 0; i < nr; i++)
			sges[i] = region_sge(message.far[i].region,
					     message.far[i].at,
					     message.far[i].length);
		post_receive(&stage->pair.far, sges, nr);
	}
	post(stage, &message, immediate, operand);
	end_wait_success(&stage->pair.near, "sender");
	if (is_send(stage->operation) || stage->operation == WRITE_IMM)
		check_receive(stage, &message, immediate);
	book(stage, message, operand);
	for (int i = 0; i < message.nr_near; i++)
		region_check(message.near[i].region);
	for (int i = 0; i < message.nr_far; i++)
		region_check(message.far[i].region);
	stage->number++;
}

/**
 * struct run - a test
 * @type: of the queue pairs
 * @operation: what is posted
 * @srq: the far end receives from a shared receive queue
 * @mtu: the path's
 */
struct run {
	enum ibv_qp_type type;
	enum operation operation;
	bool srq;
	enum ibv_mtu mtu;
};

static void all_offsets_and_lengths(const void *what)
{
	const struct run *run = what;
	struct stage stage = {};
	uint64_t before, after;
	bool counted;
	size_t once = below(COUNT(offsets));

	open_stage(&stage, run->type, run->operation, run->mtu, run->srq);
	counted = hw_counter("odp_faults", &before);
	for (size_t l = 0; l < COUNT(lengths); l++)
		for (size_t o = 0; o < COUNT(offsets); o++)
			if (lengths[l] < LONGEST || o == once)
				one_transfer(&stage, offsets[o], lengths[l]);
	/* Global visibility needs no page. */
	if (run->operation != FLUSH && counted &&
	    hw_counter("odp_faults", &after) && after == before)
		wrong("no page was faulted in");
	close_stage(&stage);
}

static const struct {
	const char *name;
	struct run run;
} kinds[] = {
	{ "rc.send", { .type = IBV_QPT_RC, .operation = SEND } },
	{ "rc.send_imm", { .type = IBV_QPT_RC, .operation = SEND_IMM } },
	{ "srq.rc", { .type = IBV_QPT_RC, .operation = SEND, .srq = true } },
	{ "rc.write", { .type = IBV_QPT_RC, .operation = WRITE } },
	{ "rc.write_imm", { .type = IBV_QPT_RC, .operation = WRITE_IMM } },
	{ "rc.read", { .type = IBV_QPT_RC, .operation = READ } },
	{ "atomic.compare_swap", { .type = IBV_QPT_RC, .operation = SWAP } },
	{ "atomic.fetch_add", { .type = IBV_QPT_RC, .operation = ADD } },
	{ "atomic.write", { .type = IBV_QPT_RC, .operation = ATOMIC_WRITE } },
	{ "flush.global", { .type = IBV_QPT_RC, .operation = FLUSH } },
	{ "uc.send", { .type = IBV_QPT_UC, .operation = SEND } },
	{ "srq.uc",
	  { .type = IBV_QPT_UC, .operation = SEND_IMM, .srq = true } },
	/* A write on UC has no answer: the immediate tells that it came. */
	{ "uc.write_imm", { .type = IBV_QPT_UC, .operation = WRITE_IMM } },
	{ "ud.send", { .type = IBV_QPT_UD, .operation = SEND } },
	{ "srq.ud",
	  { .type = IBV_QPT_UD, .operation = SEND_IMM, .srq = true } },
};

static const enum ibv_mtu mtus[] = { IBV_MTU_256, IBV_MTU_512, IBV_MTU_1024,
				     IBV_MTU_2048, IBV_MTU_4096 };

static struct test tests[COUNT(kinds) * COUNT(mtus)];

static void __attribute__((constructor)) know_tests(void)
{
	for (size_t i = 0; i < COUNT(tests); i++) {
		struct run *run = malloc(sizeof(*run));
		char *name;

		*run = kinds[i / COUNT(mtus)].run;
		run->mtu = mtus[i % COUNT(mtus)];
		if (asprintf(&name, "%s.mtu_%u", kinds[i / COUNT(mtus)].name,
			     mtu_bytes(run->mtu)) < 0)
			abort();
		tests[i] = (struct test){ name, all_offsets_and_lengths, run };
	}
	tests_add(tests, COUNT(tests));
}
