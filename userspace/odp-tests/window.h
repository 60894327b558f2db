/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Copyright (c) 2026 The Twostep authors */
/*
 * Memory windows: what the programs about them have in common. IBTA volume 1, 10.6.7.2.
 *
 * A test is a behaviour, a type of window (1: anybody of the protection domain may use it,
 * bound by ibv_bind_mw(); 2: only the queue pair that bound it, by a work request) and a kind
 * of memory below it. The far side of a pair owns the memory and binds; the near side reaches
 * it. A refusal ends a pair, so each has one of its own, and the stage's pair shows afterwards
 * that others go on.
 *
 * A window of type 2 refers to its queue pair: it goes before that does.
 *
 * What a function expects and does not find ends the test (suite.h).
 */
#ifndef WINDOW_H
#define WINDOW_H

#include "fabric.h"
#include "region.h"
#include "suite.h"

#define PAGES 8
#define SIZE (PAGES * PAGE)
#define REMOTE_ACCESS                                       \
	(IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ | \
	 IBV_ACCESS_REMOTE_ATOMIC)

/**
 * enum memory - what windows are bound to
 * @EXPLICIT: a range on demand
 * @SHIFTED: the same, with other addresses on the wire than in the process
 * @IMPLICIT: the address space
 * @PINNED: a range in ordinary memory
 */
enum memory { EXPLICIT, SHIFTED, IMPLICIT, PINNED };

/**
 * struct variant - what a test is run with
 * @type: of its windows
 * @memory: below them
 */
struct variant {
	enum ibv_mw_type type;
	enum memory memory;
};

/**
 * struct stage - the two sides
 * @fabric: the device
 * @type: of the windows
 * @pair: queue pairs that go on
 * @near: pinned
 * @far: what windows are bound to
 * @counted: the device counts faults
 * @faults: of the device, when it began
 */
struct stage {
	struct fabric fabric;
	enum ibv_mw_type type;
	struct pair pair;
	struct region near, far;
	bool counted;
	uint64_t faults;
};

/**
 * struct window - a memory window
 * @mw: its rkey is the one it has, or had last
 * @region: bound to
 * @at: first byte there
 * @length: bytes
 * @start: what the first byte is called on the wire
 */
struct window {
	struct ibv_mw *mw;
	struct region *region;
	size_t at, length;
	uint64_t start;
};

/* Each test makes its stage, and closes it: on demand, the device must have had faults. */
void open_stage(struct stage *stage, const struct variant *variant,
		size_t size);
void close_stage(struct stage *stage);
/* A connected pair of queue pairs, for who needs one of his own. */
void make_pair(struct stage *stage, struct pair *pair);

/* What is below the stage's windows once more, as an MR with other rights or another domain. */
struct ibv_mr *same_memory(struct stage *stage, struct ibv_pd *pd, int access);

struct window window_alloc(struct stage *stage);
void window_free(struct window *window);
/* Bind to bytes of a region with IBV_ACCESS_* rights, and bind to nothing. */
void window_bind(struct window *window, struct end *end, struct region *region,
		 size_t at, size_t length, int access);
void window_unbind(struct window *window, struct end *end);

/*
 * The same in steps. post_bind() returns what the verb does; the window has the key RKEY once
 * wait_bind() has seen it succeed.
 */
int post_bind(struct end *end, struct ibv_mw *mw, uint32_t rkey,
	      const struct ibv_mw_bind_info *info);
enum ibv_wc_status wait_bind(struct end *end, struct ibv_mw *mw, uint32_t rkey);
enum ibv_wc_status try_bind(struct end *end, struct ibv_mw *mw,
			    const struct ibv_mw_bind_info *info);
enum ibv_wc_status invalidate(struct end *end, uint32_t rkey);

/* Move bytes through a window, to or from its byte @at, and look at all memory. */
void transfer(struct stage *stage, struct pair *pair, struct window *window,
	      enum ibv_wr_opcode opcode, size_t at, size_t length);
/* Each byte of a window once, in pieces that are drawn; by one operation, or by all. */
void cover(struct stage *stage, struct pair *pair, struct window *window,
	   enum ibv_wr_opcode opcode);
void cover_words(struct stage *stage, struct pair *pair, struct window *window);
void cover_all(struct stage *stage, struct pair *pair, struct window *window);

void want(const char *whose, enum ibv_wc_status status,
	  enum ibv_wc_status wanted);
/* A counter of the device moves away from what it was @before. */
void want_moved(const char *name, uint64_t before);
void want_state(struct end *end, const char *whose, enum ibv_qp_state state);
/* Other queue pairs go on, with a window of their own on the same memory. */
void others_work(struct stage *stage);
/*
 * The operation ends in a remote access error, both queue pairs with it (IBTA 9.9, class C at
 * the responder), no byte is moved, and others go on.
 */
void must_refuse(struct stage *stage, struct pair *pair,
		 enum ibv_wr_opcode opcode, uint64_t address, uint32_t rkey,
		 size_t length);

/**
 * struct behaviour - a test, and what it is run with
 * @name: what is true if it passes
 * @run: shows it; is given a struct variant
 * @types: of windows, as bits
 * @memories: below them, as bits
 */
struct behaviour {
	const char *name;
	void (*run)(const void *what);
	unsigned int types, memories;
};

#define BIT(nr) (1U << (nr))
#define TYPE_1 BIT(IBV_MW_TYPE_1)
#define TYPE_2 BIT(IBV_MW_TYPE_2)
#define BOTH (TYPE_1 | TYPE_2)
#define RANGES (BIT(EXPLICIT) | BIT(SHIFTED))
#define ANY (RANGES | BIT(IMPLICIT) | BIT(PINNED))

/* Make tests known: each behaviour with each type and memory that it is for. */
void behaviours_add(const struct behaviour *behaviours, size_t nr);

/* The same of a file's table, before main(). */
#define BEHAVIOURS(behaviours)                                         \
	static void __attribute__((constructor)) know_behaviours(void) \
	{                                                              \
		behaviours_add(behaviours, COUNT(behaviours));         \
	}

#endif /* WINDOW_H */
