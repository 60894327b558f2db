// SPDX-License-Identifier: GPL-2.0
/*
 * Copyright (c) 2026 The Twostep authors
 *
 * KUnit tests of the HMM mirror: random operations of process and device, one after the
 * other and at the same time.
 *
 * One after the other: after every step mirror, process and device agree, and user bits
 * have stayed with their pages and with nothing else.
 *
 * At the same time: the process writes a page's own address into it, or throws it away. A
 * device that works by itself looks at what is linked, without any lock of the mirror,
 * and must find the page's address or zeroes: a page that the process has lost
 * soon has another address in it.
 */

#include <linux/highmem.h>
#include <linux/kthread.h>
#include <linux/mm.h>
#include <linux/mman.h>

#include "hmm-mirror-test.h"

#define BLOCKS 3
#define NR (BLOCKS * PAGES)

/**
 * struct walk - a sequence of random steps
 * @mock: device and mirror
 * @rnd: where chance comes from
 * @before: words before a step
 */
struct walk {
	struct mock *mock;
	struct rnd_state rnd;
	u64 before[NR];
};

/* A part of the memory: mostly short, at times most of it, at times whole blocks. */
static unsigned int any_part(struct rnd_state *rnd, unsigned int *first)
{
	unsigned int nr;

	*first = below(rnd, NR);
	if (chance(rnd, 20)) {
		*first = below(rnd, BLOCKS) * PAGES;
		return PAGES;
	}
	nr = NR - *first;
	if (chance(rnd, 80))
		nr = min(nr, 24u);
	return 1 + below(rnd, nr);
}

static void step_fault(struct walk *walk)
{
	u64 access = chance(&walk->rnd, 50) ? RW : RO;
	unsigned int first, nr = any_part(&walk->rnd, &first);
	struct kunit *test = walk->mock->test;
	struct mock *mock = walk->mock;
	int ret;

	mock->fail_links = chance(&walk->rnd, 20);
	mock->link_error = chance(&walk->rnd, 80) ? -ENOMEM : -EIO;
	mock->link_limit = below(&walk->rnd, 30);
	ret = mock_fault(mock, first, nr, access, below(&walk->rnd, 3));
	mock->fail_links = 0;
	if (!ret && mock->fault.mode == HMM_MIRROR_FAULT) {
		KUNIT_EXPECT_EQ(test, mock->fault.present, nr);
		KUNIT_EXPECT_EQ(test, mock->fault.granted & access, access);
	}
	KUNIT_EXPECT_TRUE_MSG(test, !ret || ret == -EPERM || ret == -EIO, "%d",
			      ret);
	mock_cache(mock);
}

static void step_process(struct walk *walk)
{
	static const int advices[] = { MADV_DONTNEED, MADV_DONTNEED, MADV_FREE,
				       MADV_HUGEPAGE, MADV_NOHUGEPAGE };
	unsigned int first, nr = any_part(&walk->rnd, &first);
	struct mock *mock = walk->mock;
	unsigned long addr = address(mock, first);
	u32 what = below(&walk->rnd, 100), i;

	if (what < 45)
		process_advise(mock->test, addr, nr,
			       advices[below(&walk->rnd, ARRAY_SIZE(advices))]);
	else if (what < 50)
		do_madvise(current->mm, ALIGN_DOWN(addr, BLOCK), BLOCK,
			   MADV_COLLAPSE);
	else if (what < 60)
		process_protect(mock->test, addr, 1, chance(&walk->rnd, 70));
	else
		/* What must not be written is left alone. */
		for (i = 0; i < nr; i++)
			put_user(
				addr + i * PAGE_SIZE,
				(unsigned long __user *)(addr + i * PAGE_SIZE));
}

static void step_tag(struct walk *walk)
{
	unsigned int first, nr = any_part(&walk->rnd, &first), i;
	u64 mask = (u64)below(&walk->rnd, 32) << 52;
	u64 user = (u64)below(&walk->rnd, 32) << 52 & mask;
	struct mock *mock = walk->mock;
	long pages = 0;

	for (i = first; i < first + nr; i++) {
		if (!walk->before[i])
			continue;
		walk->before[i] = (walk->before[i] & ~mask) | user;
		pages++;
	}
	KUNIT_EXPECT_EQ(mock->test, pages,
			hmm_mirror_tag(&mock->mirror, address(mock, first),
				       address(mock, first + nr), mask, user));
}

/* User bits are those from before if the word has been there, and none if it is new. */
static void check_user_bits(struct walk *walk)
{
	unsigned int i;
	u64 word, old;

	for (i = 0; i < NR; i++) {
		word = mock_word(walk->mock, i);
		old = walk->before[i];
		if (!old || (word ^ old) & PFN_TAG_PFN)
			old = 0;
		if (word && (word ^ old) & PFN_TAG_USER) {
			KUNIT_FAIL(walk->mock->test, "page %u: %llx, was %llx",
				   i, word, walk->before[i]);
			return;
		}
		walk->before[i] = word;
	}
}

static void random_steps(struct kunit *test)
{
	struct walk *walk = kunit_kzalloc(test, sizeof(*walk), GFP_KERNEL);
	unsigned int i;
	u32 what;

	KUNIT_ASSERT_NOT_NULL(test, walk);
	prandom_seed_state(&walk->rnd, mirror_test_seed(test));
	walk->mock = mock_create(test);
	walk->mock->mirror.whole_runs = chance(&walk->rnd, 50);
	mock_start(walk->mock, process_map(test, NR, MAP_PRIVATE), NR, RW);
	if (chance(&walk->rnd, 70))
		process_advise(test, address(walk->mock, 0), NR, MADV_HUGEPAGE);
	for (i = 0; i < mirror_test_steps() && !test->status; i++) {
		what = below(&walk->rnd, 100);
		if (what < 50)
			step_fault(walk);
		else if (what < 92)
			step_process(walk);
		else
			step_tag(walk);
		check_user_bits(walk);
		mock_holds(walk->mock);
	}
	mock_stop(walk->mock);
}

/**
 * struct crowd - what works at the same time
 * @mock: device and mirror
 * @mm: of the process
 * @seed: for the next thread
 * @looks: pages that the device looked at
 * @wrong: of these, pages that are not the process'
 */
struct crowd {
	struct mock *mock;
	struct mm_struct *mm;
	atomic_t seed;
	atomic64_t looks;
	atomic64_t wrong;
};

/* A driver fills the device's entries under the lock; the device uses them without. */
static void look_at(struct crowd *crowd, unsigned int i)
{
	struct mock *mock = crowd->mock;
	unsigned long *page, found;
	u64 word;

	down_read(&mock->mirror.lock);
	spin_lock(&mock->lock);
	mock->at[i].cached = mock->at[i].word;
	spin_unlock(&mock->lock);
	up_read(&mock->mirror.lock);

	spin_lock(&mock->lock);
	word = mock->at[i].word;
	if (mock->at[i].cached) {
		page = kmap_local_page(pfn_to_page(word & PFN_TAG_PFN));
		found = READ_ONCE(*page);
		kunmap_local(page);
		atomic64_inc(&crowd->looks);
		if (found && found != address(mock, i))
			atomic64_inc(&crowd->wrong);
	}
	spin_unlock(&mock->lock);
}

static int device_thread(void *data)
{
	struct crowd *crowd = data;
	struct rnd_state rnd;

	prandom_seed_state(&rnd, atomic_inc_return(&crowd->seed));
	while (!kthread_should_stop()) {
		look_at(crowd, below(&rnd, NR));
		cond_resched();
	}
	return 0;
}

static int fault_thread(void *data)
{
	struct crowd *crowd = data;
	struct hmm_mirror_fault request;
	struct mock *mock = crowd->mock;
	unsigned int first, nr;
	struct rnd_state rnd;
	int ret;

	prandom_seed_state(&rnd, atomic_inc_return(&crowd->seed));
	while (!kthread_should_stop()) {
		nr = any_part(&rnd, &first);
		request = (struct hmm_mirror_fault){
			.start = address(mock, first),
			.end = address(mock, first + nr),
			.access = chance(&rnd, 50) ? RW : RO,
			.mode = below(&rnd, 3),
		};
		if (chance(&rnd, 70)) {
			ret = hmm_mirror_fault(&mock->mirror, &request);
		} else {
			ret = hmm_mirror_fault_and_lock(&mock->mirror,
							&request);
			if (!ret)
				up_write(&mock->mirror.lock);
		}
		KUNIT_EXPECT_TRUE_MSG(mock->test, !ret || ret == -EBUSY, "%d",
				      ret);
		cond_resched();
	}
	return 0;
}

static void process_works(struct crowd *crowd, struct rnd_state *rnd)
{
	struct mock *mock = crowd->mock;
	unsigned int first, nr = any_part(rnd, &first);
	unsigned long addr = address(mock, first);
	u32 what = below(rnd, 100);

	if (what < 40)
		process_advise(mock->test, addr, nr, MADV_DONTNEED);
	else if (what < 45)
		do_madvise(current->mm, ALIGN_DOWN(addr, BLOCK), BLOCK,
			   MADV_COLLAPSE);
	else if (what < 50)
		hmm_mirror_tag(&mock->mirror, addr, addr + nr * PAGE_SIZE,
			       PFN_TAG_USER, PFN_TAG_USER);
	else
		process_touch(mock->test, addr, nr);
}

static void all_at_the_same_time(struct kunit *test)
{
	int (*const work[])(void *) = { fault_thread, fault_thread,
					device_thread };
	struct crowd *crowd = kunit_kzalloc(test, sizeof(*crowd), GFP_KERNEL);
	struct task_struct *task[ARRAY_SIZE(work)];
	struct mock *mock = mock_create(test);
	unsigned long deadline;
	struct rnd_state rnd;
	unsigned int i;
	u64 seed;

	KUNIT_ASSERT_NOT_NULL(test, crowd);
	seed = mirror_test_seed(test);
	prandom_seed_state(&rnd, seed);
	atomic_set(&crowd->seed, seed);
	crowd->mock = mock;
	mock_start(mock, process_map(test, NR, MAP_PRIVATE), NR, RW);
	process_advise(test, address(mock, 0), PAGES, MADV_HUGEPAGE);
	for (i = 0; i < ARRAY_SIZE(work); i++)
		task[i] = kthread_run(work[i], crowd, "hmm-mirror-test");
	for (i = 0; i < 4 * mirror_test_steps(); i++) {
		process_works(crowd, &rnd);
		cond_resched();
	}
	/* It may not have got the processor yet. */
	deadline = jiffies + 30 * HZ;
	while (!atomic64_read(&crowd->looks) && time_before(jiffies, deadline))
		schedule_timeout_uninterruptible(1);
	for (i = 0; i < ARRAY_SIZE(work); i++)
		if (!IS_ERR(task[i]))
			kthread_stop(task[i]);
		else
			KUNIT_FAIL(test, "no thread");

	KUNIT_EXPECT_EQ(test, 0, atomic64_read(&crowd->wrong));
	KUNIT_EXPECT_GT(test, atomic64_read(&crowd->looks), 0);
	kunit_info(test, "%lld looks, %lld faults, %lld walks thrown away",
		   atomic64_read(&crowd->looks),
		   atomic64_read(&mock->mirror.stats.faults),
		   atomic64_read(&mock->mirror.stats.retries));
	mock_holds(mock);
	mock_stop(mock);
}

static struct kunit_case hmm_mirror_random_cases[] = {
	KUNIT_CASE(random_steps),
	KUNIT_CASE(all_at_the_same_time),
	{}
};

static struct kunit_suite hmm_mirror_random_suite = {
	.name = "hmm_mirror_random",
	.test_cases = hmm_mirror_random_cases,
};

kunit_test_suite(hmm_mirror_random_suite);
