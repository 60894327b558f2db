// SPDX-License-Identifier: GPL-2.0
/*
 * Copyright (c) 2026 The Twostep authors
 *
 * KUnit tests of the HMM mirror: every step that can fail, fails once.
 *
 * An operation is tried again and again, each time on a mirror of its own; in try n the nth
 * step that fault injection knows of fails, until a try meets no such step. After each,
 * mirror, process and device agree, and the operation's own answer is true. Then it is
 * done once more, which must go well.
 *
 * The mirror's own seams always fail. Slab and page allocations that may sleep do so only
 * once debugfs failslab and fail_page_alloc were told to consider them: run the suite again
 * then.
 */

#include <linux/mm.h>
#include <linux/mman.h>
#include <linux/sched.h>

#include "hmm-mirror-internal.h"
#include "hmm-mirror-test.h"

#define NR (2 * PAGES)
#define MAX_TRIES 200

/**
 * struct operation - an operation that is to fail
 * @name: for messages
 * @run: do it; every step in it may fail
 * @huge: on huge pages
 * @least: steps that it has at least
 */
struct operation {
	const char *name;
	int (*run)(struct mock *mock);
	bool huge;
	unsigned int least;
};

static int run_fault(struct mock *mock)
{
	return mock_fault(mock, PAGES - 20, 40, RW, HMM_MIRROR_FAULT);
}

static int run_upgrade(struct mock *mock)
{
	int ret = mock_fault(mock, 0, 20, RO, HMM_MIRROR_FAULT);

	return ret ?: mock_fault(mock, 3, 20, RW, HMM_MIRROR_FAULT);
}

static int run_prefetch(struct mock *mock)
{
	return mock_fault(mock, 0, NR, RW, HMM_MIRROR_PREFETCH);
}

static int run_snapshot(struct mock *mock)
{
	return mock_fault(mock, 0, NR, RW, HMM_MIRROR_SNAPSHOT);
}

static int run_locked(struct mock *mock)
{
	int ret;

	mock->fault = (struct hmm_mirror_fault){
		.start = address(mock, 0),
		.end = address(mock, NR),
		.access = RW,
	};
	ret = hmm_mirror_fault_and_lock(&mock->mirror, &mock->fault);
	if (!ret)
		up_write(&mock->mirror.lock);
	return ret;
}

static int run_tag(struct mock *mock)
{
	int ret = mock_fault(mock, 0, NR, RO, HMM_MIRROR_FAULT);
	long pages;

	if (ret)
		return ret;
	pages = hmm_mirror_tag(&mock->mirror, address(mock, 0),
			       address(mock, NR), PFN_TAG_USER, PFN_TAG_USER);
	return pages == NR ? 0 : pages;
}

/* Cannot fail: pages of many blocks go, and the table shrinks if it can. */
static int run_clear(struct mock *mock)
{
	int ret = mock_fault(mock, 0, NR, RO, HMM_MIRROR_FAULT);

	if (ret)
		return ret;
	process_advise(mock->test, address(mock, 1), NR - 1, MADV_DONTNEED);
	KUNIT_EXPECT_EQ(mock->test, mock_word(mock, NR - 1), 0);
	return 0;
}

static const struct operation operations[] = {
	{ "fault", run_fault, false, 6 },
	{ "fault of huge pages", run_fault, true, 6 },
	{ "upgrade", run_upgrade, false, 6 },
	{ "upgrade of huge pages", run_upgrade, true, 6 },
	{ "prefetch", run_prefetch, false, 6 },
	{ "snapshot", run_snapshot, false, 6 },
	{ "snapshot of huge pages", run_snapshot, true, 6 },
	{ "fault and lock", run_locked, false, 6 },
	{ "fault and lock of huge pages", run_locked, true, 6 },
	{ "tag", run_tag, true, 8 },
	{ "clear", run_clear, false, 6 },
};

static void operation_name(const struct operation *operation, char *name)
{
	strscpy(name, operation->name, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(operation, operations, operation_name);

/* Returns whether a step of the operation was made to fail. */
static bool run_failing(struct mock *mock, const struct operation *operation,
			unsigned int n, int *ret)
{
	bool failed;

	current->fail_nth = n;
	*ret = operation->run(mock);
	failed = !current->fail_nth;
	current->fail_nth = 0;
	return failed;
}

/* What a request said of itself, at least if it is about all pages of the mirror. */
static void answer_is_true(struct mock *mock)
{
	unsigned int i, first, behind, pages = 0;

	if (!mock->fault.start)
		return;
	first = (mock->fault.start - mock->start) >> PAGE_SHIFT;
	behind = (mock->fault.end - mock->start) >> PAGE_SHIFT;
	for (i = first; i < behind; i++) {
		if (mock_word(mock, i) & PFN_TAG_MAPPED)
			pages++;
		else if (mock->fault.mode == HMM_MIRROR_FAULT)
			break;
	}
	KUNIT_EXPECT_GE(mock->test, pages, mock->fault.present);
}

static bool try_once(struct kunit *test, const struct operation *operation,
		     unsigned long addr, unsigned int n)
{
	struct mock *mock = mock_create(test);
	bool failed;
	int ret;

	mock_start(mock, addr, NR, RW);
	failed = run_failing(mock, operation, n, &ret);
	KUNIT_EXPECT_TRUE_MSG(
		test, !ret || (failed && (ret == -ENOMEM || ret == -EFAULT)),
		"%d in try %u", ret, n);
	mock_holds(mock);
	if (operation->run != run_clear)
		answer_is_true(mock);
	if (failed) {
		KUNIT_EXPECT_EQ_MSG(test, 0, operation->run(mock),
				    "after step %u had failed", n);
		mock_holds(mock);
	}
	mock_stop(mock);
	return failed;
}

static void each_failing_step_is_undone(struct kunit *test)
{
	const struct operation *operation = test->param_value;
	unsigned long addr = operation->huge ?
				     process_map_huge(test, 2) :
				     process_map(test, NR, MAP_PRIVATE);
	unsigned int n = 0;

	if (!operation->huge)
		process_touch(test, addr, NR);
	while (n < MAX_TRIES && !test->status &&
	       try_once(test, operation, addr, n + 1))
		n++;
	KUNIT_EXPECT_LT(test, n, MAX_TRIES);
	KUNIT_EXPECT_GE(test, n, operation->least);
	kunit_info(test, "%u steps", n);
}

static struct kunit_case hmm_mirror_seams_cases[] = {
	KUNIT_CASE_PARAM(each_failing_step_is_undone, operation_gen_params),
	{}
};

static struct kunit_suite hmm_mirror_seams_suite = {
	.name = "hmm_mirror_seams",
	.test_cases = hmm_mirror_seams_cases,
};

kunit_test_suite(hmm_mirror_seams_suite);
