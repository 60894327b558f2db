// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
// Copyright (c) 2026 The Twostep authors
/*
 * memory goes for a moment while the device uses it. A message ends with the data
 * right or with the error that the IBTA names, and never with anything else.
 *
 * One side's region is on demand, and vanishes: a thread takes parts that are drawn away and
 * gives them back, again and again. The other side's is pinned and stays. A message runs
 * against that; then, with the thread held between two deeds, every byte is looked at. How
 * often each page was taken is counted, so it is known whether one was since the last look.
 * What a byte of the vanishing region may be then:
 *
 *  - not written by the message: what it was at the last look;
 *  - written, and the message succeeded: what was written, and not what it was before;
 *  - written, and the message failed: either;
 *  - and 0, if the deed leaves zeros and the page was taken since the last look.
 *
 * What the message delivered from there is what the region held at the last look, or 0 under
 * the same condition. So a message that met no deed is exact, and zeros never turn back.
 *
 * A message may fail only if the deed forbids what it does, and then with one status: at the
 * requester's memory a local protection error; at the responder's a remote access error, and for
 * a receive a remote operation error, with a local protection error in the receiver's own
 * completion. The queue pairs are made anew before the look: a packet that was sent before an
 * error may arrive after it.
 *
 * Nothing is mapped, by a library either, but with the thread held: the kernel could choose the
 * hole.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "backing.h"
#include "fabric.h"
#include "region.h"
#include "options.h"
#include "suite.h"

#define PAGES 256
#define SIZE (PAGES * PAGE)
/* Pages that are taken at a time, at most. */
#define PART 64
#define MESSAGES 60
/* How often others may run while a part is away, and while none is, at most. */
#define LINGER 1000
/* Of each outcome that there must be. */
#define ENOUGH 2

/* What a deed forbids the device while it lasts. */
enum forbids { NOTHING, WRITING, ALL };

struct victim;

/**
 * struct deed - what happens to memory
 * @away: takes a part
 * @back: gives it back, or NULL
 * @forbids: what in between
 * @zeros: the part is zeros behind
 * @to_end: it reaches to the end of the region
 * @backing: whose pages the region has
 */
struct deed {
	void (*away)(struct victim *victim, size_t at, size_t length);
	void (*back)(struct victim *victim, size_t at, size_t length);
	enum forbids forbids;
	bool zeros;
	bool to_end;
	enum backing backing;
};

/**
 * struct victim - a region that vanishes, and the thread that sees to it
 * @region: the region
 * @file: its pages are of this, or -1
 * @elsewhere: where a part is that was moved away
 * @deed: what happens to it
 * @random: the thread's own sequence
 * @thread: the thread
 * @held: no deed is under way
 * @waits: somebody wants to hold it
 * @ends: told to the thread
 * @taken: how often each page was, changed with @held
 * @seen: @taken at the last look
 */
struct victim {
	struct region region;
	int file;
	void *elsewhere;
	const struct deed *deed;
	uint64_t random;
	pthread_t thread;
	pthread_mutex_t held;
	bool waits;
	bool ends;
	unsigned long taken[PAGES];
	unsigned long seen[PAGES];
};

/**
 * struct stage - the two sides
 * @fabric: the device
 * @pair: queue pairs
 * @victim: memory of one end
 * @steady: memory of the other
 * @requester: the victim is the near end's
 * @succeeded: messages
 * @failed: messages
 * @zeroed: bytes that were found to be 0 and had not been
 */
struct stage {
	struct fabric fabric;
	struct pair pair;
	struct victim victim;
	struct region steady;
	bool requester;
	size_t succeeded, failed, zeroed;
};

/**
 * struct message - one of them
 * @opcode: a write, a read or a send
 * @victim_at: where in the victim
 * @steady_at: where in the steady region
 * @length: bytes
 * @into: the victim is written
 */
struct message {
	enum ibv_wr_opcode opcode;
	size_t victim_at, steady_at, length;
	bool into;
};

static uint64_t next(uint64_t *random)
{
	*random ^= *random << 13;
	*random ^= *random >> 7;
	*random ^= *random << 17;
	return *random;
}

static void hold(struct victim *victim)
{
	__atomic_store_n(&victim->waits, true, __ATOMIC_RELAXED);
	pthread_mutex_lock(&victim->held);
	__atomic_store_n(&victim->waits, false, __ATOMIC_RELAXED);
}

static void let_go(struct victim *victim)
{
	pthread_mutex_unlock(&victim->held);
}

/* Let others run for a while. */
static void linger(struct victim *victim)
{
	for (size_t i = next(&victim->random) % LINGER; i > 0; i--)
		sched_yield();
}

static void one_deed(struct victim *victim)
{
	size_t first = next(&victim->random) % PAGES;
	size_t pages = 1 + next(&victim->random) % PART;

	if (pages > PAGES - first || victim->deed->to_end)
		pages = PAGES - first;
	for (size_t i = 0; i < pages; i++)
		victim->taken[first + i]++;
	victim->deed->away(victim, first * PAGE, pages * PAGE);
	if (victim->deed->back) {
		linger(victim);
		victim->deed->back(victim, first * PAGE, pages * PAGE);
	}
}

static void *vanish(void *arg)
{
	struct victim *victim = arg;

	while (!__atomic_load_n(&victim->ends, __ATOMIC_RELAXED)) {
		if (__atomic_load_n(&victim->waits, __ATOMIC_RELAXED)) {
			sched_yield();
			continue;
		}
		pthread_mutex_lock(&victim->held);
		one_deed(victim);
		pthread_mutex_unlock(&victim->held);
		linger(victim);
	}
	return NULL;
}

static bool may_fail(const struct stage *stage, const struct message *message)
{
	enum forbids forbids = stage->victim.deed->forbids;

	return forbids == ALL || (forbids == WRITING && message->into);
}

/* The one error that a message may end with at its sender. */
static enum ibv_wc_status error_of(const struct stage *stage,
				   const struct message *message)
{
	if (stage->requester)
		return IBV_WC_LOC_PROT_ERR;
	return message->opcode == IBV_WR_SEND ? IBV_WC_REM_OP_ERR :
						IBV_WC_REM_ACCESS_ERR;
}

/*
 * Bytes of @region that were @region->want may be @fresh, or still the same if @old, or 0 if
 * @zero. What they are is what is wanted from now on. Returns how many have become 0.
 */
static size_t settle(struct region *region, size_t at, size_t length,
		     const uint8_t *fresh, bool old, bool zero)
{
	size_t zeroed = 0;

	if (!memcmp(region->bytes + at, fresh, length)) {
		memcpy(region->want + at, fresh, length);
		return 0;
	}
	for (size_t i = 0; i < length; i++) {
		uint8_t is = region->bytes[at + i];
		uint8_t *want = &region->want[at + i];

		if (is != fresh[i] && !(old && is == *want) && !(zero && !is))
			wrong("byte %zu is %#x; it was %#x, to become %#x%s%s",
			      at + i, is, *want, fresh[i],
			      old ? ", or not" : "", zero ? ", or 0" : "");
		zeroed += !is && *want && fresh[i];
		*want = is;
	}
	return zeroed;
}

/* Where a page of the victim and a message meet. Returns false if they do not. */
static bool meet(size_t page, const struct message *message, size_t *at,
		 size_t *end)
{
	size_t behind = message->victim_at + message->length;

	*at = page * PAGE;
	*end = *at + PAGE;
	if (message->victim_at > *at)
		*at = message->victim_at;
	if (behind < *end)
		*end = behind;
	return *at < *end;
}

/* What came out of the victim, and all else in the steady region. */
static void look_at_steady(struct stage *stage, const struct message *message,
			   bool success)
{
	const struct victim *victim = &stage->victim;
	size_t at, end;

	for (size_t page = 0; page < PAGES && !message->into; page++) {
		if (!meet(page, message, &at, &end))
			continue;
		settle(&stage->steady,
		       message->steady_at + at - message->victim_at, end - at,
		       victim->region.want + at, !success,
		       victim->deed->zeros &&
			       victim->taken[page] != victim->seen[page]);
	}
	region_check(&stage->steady);
}

static void look_at_victim(struct stage *stage, const struct message *message,
			   bool success)
{
	struct victim *victim = &stage->victim;
	struct region *region = &victim->region;

	for (size_t page = 0; page < PAGES; page++) {
		size_t start = page * PAGE, at = start, end = start;
		bool zero = victim->deed->zeros &&
			    victim->taken[page] != victim->seen[page];

		victim->seen[page] = victim->taken[page];
		if (!message->into || !meet(page, message, &at, &end))
			at = end = start;
		stage->zeroed += settle(region, start, at - start,
					region->want + start, true, zero);
		stage->zeroed +=
			settle(region, at, end - at,
			       stage->steady.want + message->steady_at + at -
				       message->victim_at,
			       !success, zero);
		stage->zeroed += settle(region, end, start + PAGE - end,
					region->want + end, true, zero);
	}
}

static void post(struct stage *stage, const struct message *message)
{
	struct region *victim = &stage->victim.region, *steady = &stage->steady;
	struct ibv_sge of_victim =
		region_sge(victim, message->victim_at, message->length);
	struct ibv_sge of_steady =
		region_sge(steady, message->steady_at, message->length);
	struct ibv_send_wr wr = { .sg_list = &of_steady,
				  .num_sge = 1,
				  .opcode = message->opcode },
			   *bad;
	int ret;

	wr.wr.rdma.remote_addr = of_victim.addr;
	wr.wr.rdma.rkey = victim->mr->rkey;
	if (stage->requester) {
		wr.sg_list = &of_victim;
		wr.wr.rdma.remote_addr = of_steady.addr;
		wr.wr.rdma.rkey = steady->mr->rkey;
	}
	if (message->opcode == IBV_WR_SEND)
		post_receive(&stage->pair.far,
			     stage->requester ? &of_steady : &of_victim, 1);
	ret = ibv_post_send(stage->pair.near.qp, &wr, &bad);
	if (ret)
		wrong("not posted: %s", strerror(ret));
}

/* Wait for the end of a message. Returns whether it succeeded. */
static bool ended(struct stage *stage, const struct message *message)
{
	enum ibv_wc_status near = end_wait(&stage->pair.near, "sender").status;
	enum ibv_wc_status far = IBV_WC_SUCCESS;
	bool success = near == IBV_WC_SUCCESS;

	if (!success &&
	    (!may_fail(stage, message) || near != error_of(stage, message)))
		wrong("the sender has '%s'", ibv_wc_status_str(near));
	/* Who cannot read what to send leaves the receiver waiting. */
	if (message->opcode != IBV_WR_SEND || (!success && stage->requester))
		return success;
	if (!success)
		far = IBV_WC_LOC_PROT_ERR;
	if (end_wait(&stage->pair.far, "receiver").status != far)
		wrong("the sender has '%s', the receiver not '%s'",
		      ibv_wc_status_str(near), ibv_wc_status_str(far));
	return success;
}

static struct message draw_message(const struct stage *stage)
{
	static const enum ibv_wr_opcode opcodes[] = { IBV_WR_RDMA_WRITE,
						      IBV_WR_RDMA_READ,
						      IBV_WR_SEND };
	struct message message = { .opcode = opcodes[below(COUNT(opcodes))] };
	bool pull = message.opcode == IBV_WR_RDMA_READ;

	message.length = 1 + below(below(2) ? 9000 : 200000);
	message.victim_at = below(SIZE - message.length);
	message.steady_at = below(SIZE - message.length);
	message.into = pull == stage->requester;
	return message;
}

/* Begins and ends with the thread held. */
static void one_message(struct stage *stage)
{
	struct message message = draw_message(stage);
	bool success;

	if (message.into)
		region_fill(&stage->steady, message.steady_at, message.length);
	else
		region_fill(&stage->victim.region, message.victim_at,
			    message.length);
	let_go(&stage->victim);
	post(stage, &message);
	success = ended(stage, &message);
	hold(&stage->victim);
	if (success) {
		stage->succeeded++;
	} else {
		stage->failed++;
		pair_destroy(&stage->pair);
		pair_make(&stage->pair, &stage->fabric, IBV_QPT_RC,
			  IBV_MTU_4096, false);
	}
	look_at_steady(stage, &message, success);
	look_at_victim(stage, &message, success);
}

static bool has_enough(const struct stage *stage)
{
	const struct deed *deed = stage->victim.deed;

	return stage->succeeded >= ENOUGH &&
	       (deed->forbids == NOTHING || stage->failed >= ENOUGH) &&
	       (!deed->zeros || stage->zeroed);
}

static void open_stage(struct stage *stage, const struct deed *deed)
{
	struct victim *victim = &stage->victim;

	fabric_open_odp(&stage->fabric, IBV_QPT_RC);
	pair_make(&stage->pair, &stage->fabric, IBV_QPT_RC, IBV_MTU_4096,
		  false);
	region_make(&stage->steady, &stage->fabric, SIZE, ALL_ACCESS);
	region_make(&victim->region, &stage->fabric, SIZE,
		    ALL_ACCESS | IBV_ACCESS_ON_DEMAND);
	victim->file = region_back(&victim->region, deed->backing);
	victim->deed = deed;
	victim->random = draw() | 1;
	pthread_mutex_init(&victim->held, NULL);
	hold(victim);
	if (pthread_create(&victim->thread, NULL, vanish, victim))
		wrong("no thread");
}

static void close_stage(struct stage *stage)
{
	struct victim *victim = &stage->victim;

	__atomic_store_n(&victim->ends, true, __ATOMIC_RELAXED);
	let_go(victim);
	pthread_join(victim->thread, NULL);
	pair_destroy(&stage->pair);
	region_destroy(&stage->steady);
	region_destroy(&victim->region);
}

static void run(const struct deed *deed, bool requester)
{
	struct stage stage = { .requester = requester };
	uint64_t taken;

	open_stage(&stage, deed);
	taken = pages_taken();
	for (size_t i = 0; i < (options.count ?: MESSAGES) ||
			   !has_enough(&stage) || !was_taken(taken);
	     i++) {
		snprintf(doing, sizeof(doing), "message %zu", i);
		one_message(&stage);
	}
	*doing = 0;
	printf("# %zu messages succeeded, %zu failed, %zu bytes became 0\n",
	       stage.succeeded, stage.failed, stage.zeroed);
	want_taken(taken);
	close_stage(&stage);
}

static void run_requester(const void *deed)
{
	run(deed, true);
}

static void run_responder(const void *deed)
{
	run(deed, false);
}

static uint8_t *part(const struct victim *victim, size_t at)
{
	return victim->region.bytes + at;
}

static void unmap(struct victim *victim, size_t at, size_t length)
{
	if (munmap(part(victim, at), length))
		wrong("munmap: %s", strerror(errno));
}

static void map(struct victim *victim, size_t at, size_t length)
{
	if (mmap(part(victim, at), length, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1,
		 0) != part(victim, at))
		wrong("mmap: %s", strerror(errno));
}

static void protect(struct victim *victim, size_t at, size_t length, int rights)
{
	if (mprotect(part(victim, at), length, rights))
		wrong("mprotect: %s", strerror(errno));
}

static void protect_all(struct victim *victim, size_t at, size_t length)
{
	protect(victim, at, length, PROT_NONE);
}

static void protect_write(struct victim *victim, size_t at, size_t length)
{
	protect(victim, at, length, PROT_READ);
}

static void unprotect(struct victim *victim, size_t at, size_t length)
{
	protect(victim, at, length, PROT_READ | PROT_WRITE);
}

static void move(void *from, void *to, size_t length)
{
	if (mremap(from, length, length, MREMAP_MAYMOVE | MREMAP_FIXED, to) !=
	    to)
		wrong("mremap: %s", strerror(errno));
}

static void move_away(struct victim *victim, size_t at, size_t length)
{
	victim->elsewhere = mmap(NULL, length, PROT_NONE,
				 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (victim->elsewhere == MAP_FAILED)
		wrong("mmap: %s", strerror(errno));
	move(part(victim, at), victim->elsewhere, length);
}

static void move_back(struct victim *victim, size_t at, size_t length)
{
	move(victim->elsewhere, part(victim, at), length);
}

static void drop(struct victim *victim, size_t at, size_t length)
{
	if (madvise(part(victim, at), length, MADV_DONTNEED))
		wrong("madvise: %s", strerror(errno));
}

static void cut_off(struct victim *victim, size_t at, size_t length)
{
	(void)length;
	if (ftruncate(victim->file, at))
		wrong("ftruncate: %s", strerror(errno));
}

static void extend(struct victim *victim, size_t at, size_t length)
{
	cut_off(victim, at + length, 0);
}

static void punch(struct victim *victim, size_t at, size_t length)
{
	if (fallocate(victim->file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		      at, length))
		wrong("fallocate: %s", strerror(errno));
}

static const struct deed unmapped = {
	.away = unmap,
	.back = map,
	.forbids = ALL,
	.zeros = true,
};

static const struct deed dropped = {
	.away = drop,
	.zeros = true,
};

static const struct deed unreadable = {
	.away = protect_all,
	.back = unprotect,
	.forbids = ALL,
};

static const struct deed read_only = {
	.away = protect_write,
	.back = unprotect,
	.forbids = WRITING,
};

static const struct deed moved = {
	.away = move_away,
	.back = move_back,
	.forbids = ALL,
};

static const struct deed truncated = {
	.away = cut_off,
	.back = extend,
	.forbids = ALL,
	.zeros = true,
	.to_end = true,
	.backing = MEMFD,
};

static const struct deed truncated_tmpfs = {
	.away = cut_off,
	.back = extend,
	.forbids = ALL,
	.zeros = true,
	.to_end = true,
	.backing = TMPFS,
};

static const struct deed punched = {
	.away = punch,
	.zeros = true,
	.backing = MEMFD,
};

#define DEED(deed)                                                        \
	{ "invalidate." #deed ".at_requester", run_requester, &deed },    \
	{                                                                 \
		"invalidate." #deed ".at_responder", run_responder, &deed \
	}

static const struct test tests[] = {
	DEED(unmapped), DEED(dropped),	 DEED(unreadable),	DEED(read_only),
	DEED(moved),	DEED(truncated), DEED(truncated_tmpfs), DEED(punched),
};

TESTS(tests)
