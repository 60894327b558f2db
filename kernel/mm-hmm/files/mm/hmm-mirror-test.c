// SPDX-License-Identifier: GPL-2.0
/*
 * Copyright (c) 2026 The Twostep authors
 *
 * KUnit tests of the HMM mirror (linux/hmm-mirror.h): the process, the device, and the
 * comparison of both with the mirror. The model is in hmm-mirror-test.h.
 *
 * The suites are in hmm-mirror-test-fault.c, -life.c, -block.c, -random.c and -seams.c.
 *
 * Parameters (hmm_mirror_test.NAME=): seed, 0 for a new one each time; steps, of a random
 * sequence.
 */

#include <linux/mm.h>
#include <linux/mman.h>
#include <linux/moduleparam.h>
#include <linux/pagewalk.h>
#include <linux/random.h>
#include <linux/uaccess.h>
#include <asm/tlb.h>

#include "hmm-mirror-internal.h"
#include "hmm-mirror-test.h"

static ulong seed;
module_param(seed, ulong, 0644);
MODULE_PARM_DESC(seed, "seed of everything random, 0: a new one each time");

static uint steps = 600;
module_param(steps, uint, 0644);
MODULE_PARM_DESC(steps, "steps of a random sequence");

struct hmm_mirror_plant hmm_mirror_plant;

/**
 * mirror_test_seed() - what decides all that is random in a case
 * @test: the case
 *
 * Return: the seed, which was printed.
 */
u64 mirror_test_seed(struct kunit *test)
{
	u64 chosen = seed ?: get_random_u32();

	kunit_info(test, "seed %llu", chosen);
	return chosen;
}

/**
 * mirror_test_steps() - how long a random sequence is
 *
 * Return: steps.
 */
unsigned int mirror_test_steps(void)
{
	return steps;
}

/**
 * process_map() - map memory where a block begins
 * @test: the case
 * @pages: how many
 * @flags: MAP_PRIVATE or MAP_SHARED
 *
 * Return: its address.
 */
unsigned long process_map(struct kunit *test, unsigned int pages,
			  unsigned long flags)
{
	unsigned long addr, size = pages * PAGE_SIZE;

	addr = kunit_vm_mmap(test, NULL, 0, size + BLOCK,
			     PROT_READ | PROT_WRITE, flags | MAP_ANONYMOUS, 0);
	KUNIT_ASSERT_FALSE(test, !addr || IS_ERR_VALUE(addr));
	return ALIGN(addr, BLOCK);
}

/**
 * process_map_huge() - map memory, and make the kernel give huge pages
 * @test: the case, skipped if there are none
 * @blocks: how many, all of them touched
 *
 * Return: its address.
 */
unsigned long process_map_huge(struct kunit *test, unsigned int blocks)
{
	unsigned long addr = process_map(test, blocks * PAGES, MAP_PRIVATE);
	unsigned int i;

	process_advise(test, addr, blocks * PAGES, MADV_HUGEPAGE);
	for (i = 0; i < blocks; i++) {
		process_touch(test, addr + i * BLOCK, 1);
		if (!(process_word(addr + i * BLOCK) & PFN_TAG_HUGE))
			kunit_skip(test, "the kernel gives no huge page");
	}
	return addr;
}

/**
 * process_touch() - write a number into each page
 * @test: the case
 * @addr: first address
 * @pages: how many
 */
void process_touch(struct kunit *test, unsigned long addr, unsigned int pages)
{
	for (; pages--; addr += PAGE_SIZE)
		KUNIT_ASSERT_EQ(test, 0,
				put_user(addr, (unsigned long __user *)addr));
}

/**
 * process_unmap() - munmap()
 * @test: the case
 * @addr: first address
 * @pages: how many
 */
void process_unmap(struct kunit *test, unsigned long addr, unsigned int pages)
{
	KUNIT_EXPECT_EQ(test, 0, vm_munmap(addr, pages * PAGE_SIZE));
}

/**
 * process_advise() - madvise()
 * @test: the case
 * @addr: first address
 * @pages: how many
 * @advice: MADV_*
 */
void process_advise(struct kunit *test, unsigned long addr, unsigned int pages,
		    int advice)
{
	KUNIT_EXPECT_EQ(test, 0,
			do_madvise(current->mm, addr, pages * PAGE_SIZE,
				   advice));
}

/**
 * process_protect() - mprotect() a part of one mapping
 * @test: the case
 * @addr: first address
 * @pages: how many
 * @write: whether it may be written
 */
void process_protect(struct kunit *test, unsigned long addr, unsigned int pages,
		     bool write)
{
	unsigned long end = addr + pages * PAGE_SIZE;
	struct vm_area_struct *vma, *prev;
	struct mm_struct *mm = current->mm;
	struct mmu_gather tlb;
	vm_flags_t flags;
	int ret = -ENOMEM;

	VMA_ITERATOR(vmi, mm, addr);

	mmap_write_lock(mm);
	vma = vma_find(&vmi, end);
	if (vma && vma->vm_start <= addr && vma->vm_end >= end) {
		prev = vma_prev(&vmi);
		vma = vma_find(&vmi, end);
		if (addr > vma->vm_start)
			prev = vma;
		flags = vma->vm_flags & ~VM_WRITE;
		if (write)
			flags |= VM_WRITE;
		tlb_gather_mmu(&tlb, mm);
		ret = mprotect_fixup(&vmi, &tlb, vma, &prev, addr, end, flags);
		tlb_finish_mmu(&tlb);
	}
	mmap_write_unlock(mm);
	KUNIT_EXPECT_EQ(test, 0, ret);
}

static int word_of_pmd(pmd_t *pmd, unsigned long addr, unsigned long end,
		       struct mm_walk *walk)
{
	unsigned int i = (addr & ~PMD_MASK) >> PAGE_SHIFT;
	u64 *word = walk->private;
	pte_t *pte;

	if (pmd_trans_huge(*pmd)) {
		*word = (pmd_pfn(*pmd) + i) | PFN_TAG_READ | PFN_TAG_HUGE |
			(pmd_write(*pmd) ? PFN_TAG_WRITE : 0);
		walk->action = ACTION_CONTINUE;
		return 0;
	}
	pte = pte_offset_map(pmd, addr);
	if (!pte)
		return 0;
	if (pte_present(*pte) && !pte_protnone(*pte))
		*word = pte_pfn(*pte) | PFN_TAG_READ |
			(pte_write(*pte) ? PFN_TAG_WRITE : 0);
	pte_unmap(pte);
	return 0;
}

static const struct mm_walk_ops word_walk = {
	.pmd_entry = word_of_pmd,
	.walk_lock = PGWALK_RDLOCK,
};

/**
 * process_word() - what the process' page table has
 * @addr: an address
 *
 * Return: the page's PFN with READ, WRITE if it can be written, HUGE if by a huge page; 0
 * if it is not there.
 */
u64 process_word(unsigned long addr)
{
	u64 word = 0;

	mmap_read_lock(current->mm);
	walk_page_range(current->mm, addr, addr + PAGE_SIZE, &word_walk, &word);
	mmap_read_unlock(current->mm);
	return word;
}

static unsigned int page_of(const struct mock *mock, unsigned long addr)
{
	return (addr - mock->start) >> PAGE_SHIFT;
}

/* Whether @b is of the page that is @pages behind that of @a, with the same rights. */
static bool continues(u64 a, u64 b, size_t pages)
{
	return !(((a + pages) ^ b) &
		 (PFN_TAG_PFN | PFN_TAG_ACCESS | PFN_TAG_KIND));
}

/* Whether an entry may go on: in a whole block, or, if the device likes, in any run. */
static bool joins(const struct mock *mock, const u64 *words, size_t i,
		  bool whole)
{
	if (!i || !pfn_tag_linkable(words[i]))
		return false;
	if (!whole && !mock->mirror.whole_runs)
		return false;
	return words[i - 1] & PFN_TAG_MAPPED &&
	       continues(words[i - 1], words[i], 1);
}

static bool is_whole(unsigned long addr, const u64 *words, size_t nr)
{
	size_t i;

	if (nr != PAGES || addr % BLOCK || words[0] % PAGES)
		return false;
	for (i = 0; i < nr; i++)
		if (!pfn_tag_linkable(words[i]) ||
		    !continues(words[0], words[i], i))
			return false;
	return true;
}

static void link_page(struct mock *mock, unsigned int i, u64 word)
{
	if (i >= mock->nr || mock->at[i].word) {
		mock->errors++;
		return;
	}
	mock->at[i].word = word;
	mock->at[i].id = mock->last_id;
}

static int link_pages(struct mock *mock, unsigned long addr, u64 *words,
		      size_t nr, size_t *done)
{
	unsigned int first = page_of(mock, addr);
	bool whole = is_whole(addr, words, nr);
	size_t i;

	for (*done = 0; *done < nr; ++*done) {
		i = *done;
		if (mock->fail_links && i >= mock->link_limit) {
			mock->fail_links--;
			return mock->link_error;
		}
		if (!pfn_tag_linkable(words[i]))
			continue;
		if (!joins(mock, words, i, whole))
			mock->last_id++;
		link_page(mock, first + i, words[i]);
		words[i] |= PFN_TAG_MAPPED;
	}
	return 0;
}

static int link_block(struct mock *mock, unsigned long addr, u64 *word,
		      size_t *done)
{
	unsigned int first = page_of(mock, addr), i;

	*done = 0;
	if (mock->fail_links) {
		mock->fail_links--;
		return mock->link_error;
	}
	mock->last_id++;
	mock->errors += addr % BLOCK || !pfn_tag_linkable(*word);
	for (i = 0; i < PAGES; i++)
		link_page(mock, first + i, *word + i);
	*word |= PFN_TAG_MAPPED;
	*done = 1;
	return 0;
}

static int mock_link(struct hmm_mirror *mirror, unsigned long addr, u64 *words,
		     size_t nr, size_t *done, gfp_t gfp)
{
	struct mock *mock = to_mock(mirror);
	int ret;

	lockdep_assert_held_write(&mirror->lock);
	spin_lock(&mock->lock);
	mock->links++;
	mock->errors += gfpflags_allow_blocking(gfp);
	if (words[0] & PFN_TAG_HUGE) {
		mock->errors += nr != 1;
		ret = link_block(mock, addr, words, done);
	} else {
		ret = link_pages(mock, addr, words, nr, done);
	}
	spin_unlock(&mock->lock);
	return ret;
}

static void unlink_page(struct mock *mock, unsigned int i)
{
	if (i >= mock->nr) {
		mock->errors++;
		return;
	}
	mock->errors += mock->at[i].cached;
	mock->at[i].word = 0;
}

/* Entries that lost some of their pages but not all were cut. */
static void count_cut(struct mock *mock, unsigned int first,
		      unsigned int behind)
{
	const struct entry *at = mock->at;

	if (first && at[first - 1].word && at[first - 1].id == at[first].id)
		mock->errors++;
	if (behind < mock->nr && at[behind].word &&
	    at[behind].id == at[behind - 1].id)
		mock->errors++;
}

static void mock_unlink(struct hmm_mirror *mirror, struct hmm_mirror_iter *runs)
{
	struct mock *mock = to_mock(mirror);
	struct hmm_mirror_run run;
	unsigned int first, i;

	lockdep_assert_held_write(&mirror->lock);
	spin_lock(&mock->lock);
	mock->unlinks++;
	while (hmm_mirror_next_run(runs, &run)) {
		first = page_of(mock, run.addr);
		for (i = 0; i < run.nr; i++)
			unlink_page(mock, first + i);
		count_cut(mock, first, first + run.nr);
	}
	spin_unlock(&mock->lock);
}

static void mock_zap(struct hmm_mirror *mirror, struct hmm_mirror_iter *runs)
{
	struct mock *mock = to_mock(mirror);
	struct hmm_mirror_run run;
	unsigned int i;

	lockdep_assert_held_write(&mirror->lock);
	spin_lock(&mock->lock);
	mock->zaps++;
	while (hmm_mirror_next_run(runs, &run))
		for (i = 0; i < run.nr; i++)
			mock->at[page_of(mock, run.addr) + i].cached = false;
	spin_unlock(&mock->lock);
}

static void put_page_action(void *page)
{
	put_page(page);
}

/**
 * process_replace() - give the process another page in place of one
 * @test: the case
 * @addr: its address
 * @keep: keep the old one until the case ends: it will be used though it is gone
 *
 * The old page is held meanwhile, or it would be the very one that comes.
 */
void process_replace(struct kunit *test, unsigned long addr, bool keep)
{
	u64 word = process_word(addr);
	struct page *old = pfn_to_page(word & PFN_TAG_PFN);

	KUNIT_ASSERT_NE(test, word, 0);
	get_page(old);
	process_advise(test, addr, 1, MADV_DONTNEED);
	process_touch(test, addr, 1);
	if (!keep)
		put_page(old);
	else
		KUNIT_ASSERT_EQ(test, 0,
				kunit_add_action_or_reset(test, put_page_action,
							  old));
}

/**
 * mock_create() - a device without a mirror
 * @test: the case
 *
 * Return: the device; its operations may be changed until mock_start().
 */
struct mock *mock_create(struct kunit *test)
{
	struct mock *mock = kunit_kzalloc(test, sizeof(*mock), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, mock);
	mock->test = test;
	mock->ops.link = mock_link;
	mock->ops.unlink = mock_unlink;
	mock->ops.zap = mock_zap;
	spin_lock_init(&mock->lock);
	return mock;
}

/* Also if the case ended early, and then the process is gone already. */
static void stop_action(void *data)
{
	struct mock *mock = data;
	unsigned int i;

	if (!mock->mirror.ops)
		return;
	for (i = 0; i < mock->nr; i++)
		mock->at[i].cached = false;
	hmm_mirror_destroy(&mock->mirror);
	mock->mirror.ops = NULL;
	KUNIT_EXPECT_EQ(mock->test, mock_mapped(mock), 0);
	KUNIT_EXPECT_EQ(mock->test, mock->errors, 0);
}

/**
 * mock_start() - begin to mirror
 * @mock: the device
 * @addr: first address
 * @pages: how many
 * @access: rights at most
 */
void mock_start(struct mock *mock, unsigned long addr, unsigned int pages,
		u64 access)
{
	struct kunit *test = mock->test;

	mock->start = addr;
	mock->nr = pages;
	mock->at = kunit_kcalloc(test, pages, sizeof(*mock->at), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, mock->at);
	mock->mirror.access = access;
	mock->mirror.ops = &mock->ops;
	KUNIT_ASSERT_EQ(test, 0,
			hmm_mirror_init(&mock->mirror, current->mm, addr,
					pages * PAGE_SIZE, NULL));
	KUNIT_ASSERT_EQ(test, 0,
			kunit_add_action_or_reset(test, stop_action, mock));
}

/**
 * mock_stop() - end the mirror; all that was linked must be gone
 * @mock: the device
 */
void mock_stop(struct mock *mock)
{
	kunit_release_action(mock->test, stop_action, mock);
}

/**
 * mock_cache() - let the device cache all that is linked
 * @mock: the device
 */
void mock_cache(struct mock *mock)
{
	unsigned int i;

	for (i = 0; i < mock->nr; i++)
		mock->at[i].cached = mock->at[i].word;
}

/**
 * mock_mapped() - how many pages the device has
 * @mock: the device
 *
 * Return: pages.
 */
unsigned int mock_mapped(const struct mock *mock)
{
	unsigned int i, pages = 0;

	for (i = 0; i < mock->nr; i++)
		pages += !!mock->at[i].word;
	return pages;
}

/* Whether a word is what process and device have. */
static bool is_true(const struct mock *mock, unsigned int i, u64 word)
{
	u64 process = process_word(address(mock, i));
	u64 linked = mock->at[i].word;

	if (!word)
		return !linked;
	if (!process || (process ^ word) & PFN_TAG_PFN)
		return false;
	if (word & ~process & PFN_TAG_WRITE)
		return false;
	if (!(word & PFN_TAG_MAPPED))
		return !linked;
	return linked && continues(linked, word, 0);
}

/**
 * mock_mismatch() - compare mirror, process and device
 * @mock: the device
 *
 * Return: the first page where they differ, -1 if none does.
 */
int mock_mismatch(struct mock *mock)
{
	unsigned int i;

	for (i = 0; i < mock->nr; i++)
		if (!is_true(mock, i, mock_word(mock, i)))
			return i;
	return -1;
}

/**
 * mock_holds() - expect mirror, process, device and counters to agree
 * @mock: the device
 */
void mock_holds(struct mock *mock)
{
	struct hmm_mirror_stats *stats = &mock->mirror.stats;
	struct kunit *test = mock->test;
	int i = mock_mismatch(mock);

	if (i >= 0)
		KUNIT_FAIL(test, "page %d: %llx, process %llx, device %llx", i,
			   mock_word(mock, i), process_word(address(mock, i)),
			   mock->at[i].word);
	KUNIT_EXPECT_EQ(test, mock->errors, 0);
	KUNIT_EXPECT_EQ(test, mock_mapped(mock),
			atomic64_read(&stats->linked_pages) -
				atomic64_read(&stats->unlinked_pages));
}

/**
 * mock_fault() - a request
 * @mock: whose
 * @first: first page
 * @pages: how many
 * @access: wanted
 * @mode: how hard
 *
 * Return: as hmm_mirror_fault(); &mock.fault has the rest.
 */
int mock_fault(struct mock *mock, unsigned int first, unsigned int pages,
	       u64 access, enum hmm_mirror_mode mode)
{
	mock->fault = (struct hmm_mirror_fault){
		.start = address(mock, first),
		.end = address(mock, first + pages),
		.access = access,
		.mode = mode,
	};
	return hmm_mirror_fault(&mock->mirror, &mock->fault);
}

/**
 * mock_word() - the word of a page
 * @mock: whose mirror
 * @i: the page
 *
 * Return: the word.
 */
u64 mock_word(struct mock *mock, unsigned int i)
{
	u64 word;

	down_read(&mock->mirror.lock);
	word = hmm_mirror_word(&mock->mirror, address(mock, i));
	up_read(&mock->mirror.lock);
	return word;
}
