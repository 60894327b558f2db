/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Copyright (c) 2026 The Twostep authors
 *
 * KUnit tests of the HMM mirror: what their files share.
 *
 * The process is the test itself: KUnit gives its thread an address space of its own, in
 * which a case maps, touches, unmaps, protects and migrates as a program would.
 *
 * The device (struct mock) is a plain array: for each page of the mirror which word is
 * linked, by which entry, and whether the device has it cached. It knows nothing of tables.
 * An entry can be made for one page, for a whole aligned block, or for any run that one
 * call links; what cuts one is an error, and so is an unlink of what is still cached.
 *
 * The reference is the process' page table, read by a walk of our own: a word in the
 * mirror must say what stands there, and what is linked must be what the mirror says.
 */
#ifndef _MM_HMM_MIRROR_TEST_H
#define _MM_HMM_MIRROR_TEST_H

#include <kunit/test.h>
#include <linux/hmm-mirror.h>
#include <linux/prandom.h>
#include <linux/spinlock.h>

#define PAGES PFN_TABLE_BLOCK_PAGES
#define BLOCK PFN_TABLE_BLOCK_SIZE
#define RW PFN_TAG_ACCESS
#define RO PFN_TAG_READ

/**
 * struct entry - what a device has for a page
 * @word: what was linked, 0 for nothing
 * @id: of the entry, equal for all pages that it maps
 * @cached: the device may use the page without looking at @word again
 */
struct entry {
	u64 word;
	unsigned int id;
	bool cached;
};

/**
 * struct mock - a device and its mirror
 * @test: the case
 * @mirror: its mirror
 * @ops: its operations, to be changed before mock_start()
 * @start: first address of the mirror
 * @nr: pages
 * @at: its entries
 * @lock: for a device that works by itself
 * @last_id: of an entry
 * @links: calls
 * @unlinks: calls, each with one flush
 * @zaps: calls
 * @errors: what the device saw that must not be
 * @fail_links: so many calls of link still fail
 * @link_error: with this
 * @link_limit: and after so many pages
 * @fault: the last request
 */
struct mock {
	struct kunit *test;
	struct hmm_mirror mirror;
	struct hmm_mirror_ops ops;
	unsigned long start;
	unsigned int nr;
	struct entry *at;
	/* Protects @at. */
	spinlock_t lock;
	unsigned int last_id;
	unsigned int links;
	unsigned int unlinks;
	unsigned int zaps;
	unsigned int errors;
	unsigned int fail_links;
	int link_error;
	unsigned int link_limit;
	struct hmm_mirror_fault fault;
};

/* hmm-mirror-test.c */
u64 mirror_test_seed(struct kunit *test);
unsigned int mirror_test_steps(void);
unsigned long process_map(struct kunit *test, unsigned int pages,
			  unsigned long flags);
unsigned long process_map_huge(struct kunit *test, unsigned int blocks);
void process_touch(struct kunit *test, unsigned long addr, unsigned int pages);
void process_unmap(struct kunit *test, unsigned long addr, unsigned int pages);
void process_advise(struct kunit *test, unsigned long addr, unsigned int pages,
		    int advice);
void process_protect(struct kunit *test, unsigned long addr, unsigned int pages,
		     bool write);
void process_replace(struct kunit *test, unsigned long addr, bool keep);
u64 process_word(unsigned long addr);

struct mock *mock_create(struct kunit *test);
void mock_start(struct mock *mock, unsigned long addr, unsigned int pages,
		u64 access);
void mock_stop(struct mock *mock);
void mock_cache(struct mock *mock);
unsigned int mock_mapped(const struct mock *mock);
int mock_mismatch(struct mock *mock);
void mock_holds(struct mock *mock);

int mock_fault(struct mock *mock, unsigned int first, unsigned int pages,
	       u64 access, enum hmm_mirror_mode mode);
u64 mock_word(struct mock *mock, unsigned int i);

static inline unsigned long address(const struct mock *mock, unsigned int i)
{
	return mock->start + i * PAGE_SIZE;
}

static inline struct mock *to_mock(struct hmm_mirror *mirror)
{
	return container_of(mirror, struct mock, mirror);
}

/* A number below @n; @n > 0. */
static inline u32 below(struct rnd_state *rnd, u32 n)
{
	return prandom_u32_state(rnd) % n;
}

static inline bool chance(struct rnd_state *rnd, u32 percent)
{
	return below(rnd, 100) < percent;
}

#endif /* _MM_HMM_MIRROR_TEST_H */
