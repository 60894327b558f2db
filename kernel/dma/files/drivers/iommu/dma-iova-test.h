/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Copyright (c) 2026 The Twostep authors
 *
 * KUnit tests of the two-step DMA core: what their files share.
 *
 * The devices are QEMU's, behind a real virtual IOMMU. A writer (iommu-testdev) stores a
 * known word at an IOVA the moment it is told to, and says whether that reached the
 * physical address it was also told. A mover (edu) copies bytes either way between memory
 * and a buffer of its own, in about 100 ms.
 *
 * The reference (struct ref) is a plain table: for every granule of a part of a reserved
 * range what it must translate to, with which rights, and which entry it belongs to. It is
 * written by the rules of linux/dma-iova.h, knows nothing of page tables, and is compared
 * with the IOMMU driver's own answer for every granule after every operation.
 *
 * Everything random comes from dma_iova_test.seed, which is printed.
 */
#ifndef _DMA_IOVA_TEST_H
#define _DMA_IOVA_TEST_H

#include <kunit/test.h>
#include <linux/dma-iova.h>
#include <linux/iommu-testdev.h>
#include <linux/iommu.h>
#include <linux/log2.h>
#include <linux/mutex.h>
#include <linux/prandom.h>
#include <linux/sizes.h>
#include <linux/types.h>

struct pci_dev;

#define TEST_WRITERS 4
#define TEST_MOVERS 2

/**
 * struct test_device - a device that does DMA on command
 * @pdev: the PCI device
 * @dev: the same as a device
 * @domain: what it translates through
 * @bar: its registers
 * @lock: serialises a command
 */
struct test_device {
	struct pci_dev *pdev;
	struct device *dev;
	struct iommu_domain *domain;
	void __iomem *bar;
	struct mutex lock; /* registers, trigger, result */
};

/**
 * struct test_devices - what this machine has
 * @writers: iommu-testdev, in the order of the bus
 * @nr_writers: how many
 * @movers: edu
 * @nr_movers: how many
 * @alone: a writer that shares its domain with nobody, or NULL
 * @pair: the first of two writers that share a domain, or NULL
 * @tables: whether entries are those of page tables, not of map requests
 */
struct test_devices {
	struct test_device writers[TEST_WRITERS];
	unsigned int nr_writers;
	struct test_device movers[TEST_MOVERS];
	unsigned int nr_movers;
	struct test_device *alone;
	struct test_device *pair;
	bool tables;
};

extern struct test_devices test_devices;

int test_devices_get(struct kunit_suite *suite);
void test_devices_put(struct kunit_suite *suite);

int writer_stores(struct test_device *writer, dma_addr_t iova, phys_addr_t phys,
		  u32 len);
bool mover_copies(struct test_device *mover, dma_addr_t iova, u32 offset,
		  u32 len, bool to_memory);

/* dma-iova-test.c */
u64 test_seed(struct kunit *test);
unsigned int test_steps(void);
unsigned int test_ranges(void);
int test_needs_alone(struct kunit *test);

/*
 * Memory for links: three aligned blocks of 2 MiB, some of 64 KiB, many scattered pages.
 * Never given back while a test runs.
 */
#define POOL_BLOCKS 3
#define POOL_CHUNKS 8
#define POOL_PAGES 64
#define POOL_AREAS (POOL_BLOCKS + POOL_CHUNKS + POOL_PAGES)

/**
 * struct test_pool - memory that devices may reach
 * @areas: physical address and size of each, largest first
 */
struct test_pool {
	struct {
		phys_addr_t phys;
		size_t size;
	} areas[POOL_AREAS];
};

struct test_pool *pool_create(struct kunit *test);

/**
 * struct ref_granule - what a granule of IOVA must be
 * @phys: address it translates to, 0 if nothing is linked
 * @first: number of the first granule of the entry it belongs to
 * @behind: number of the granule behind that entry
 * @access: rights of the device, PFN_TAG_READ and PFN_TAG_WRITE
 */
struct ref_granule {
	phys_addr_t phys;
	u32 first;
	u32 behind;
	u64 access;
};

/**
 * struct ref - a reserved range, and what a part of it must translate to
 * @test: the test it belongs to
 * @device: whose range
 * @state: the range
 * @base: IOVA of granule 0
 * @granule: bytes
 * @order: log2 of the largest entry, 0: any
 * @nr: granules in the table
 * @at: the table
 * @words: what dma_iova_link_pfns() was given, a word for each granule
 * @neighbours: whether the granules around the table must be empty
 */
struct ref {
	struct kunit *test;
	struct test_device *device;
	struct dma_iova_state state;
	dma_addr_t base;
	size_t granule;
	unsigned int order;
	unsigned int nr;
	struct ref_granule *at;
	u64 *words;
	bool neighbours;
};

struct ref *ref_create(struct kunit *test, struct test_device *device,
		       unsigned int nr);
int ref_reserve(struct ref *ref, u64 like, size_t modulo, size_t size,
		size_t skip);
void ref_adopt(struct ref *ref, size_t skip, unsigned int order);
void ref_free(struct ref *ref);
void ref_destroy(struct ref *ref);

void ref_link(struct ref *ref, unsigned int first, unsigned int nr,
	      phys_addr_t phys, u64 access);
bool word_links(u64 word);
bool word_continues(const u64 *words, unsigned int i, unsigned int first);
unsigned int ref_link_words(struct ref *ref, const u64 *before,
			    unsigned int first, unsigned int nr);
void ref_unlink(struct ref *ref, unsigned int *first, unsigned int *behind);
bool ref_empty(const struct ref *ref, unsigned int first, unsigned int behind);
void ref_granules(const struct ref *ref, size_t offset, size_t len,
		  unsigned int *first, unsigned int *behind);
unsigned int ref_linked(const struct ref *ref);
int ref_mismatch(const struct ref *ref);
bool ref_holds(const struct ref *ref, const char *after);
struct ref *ref_fresh(struct kunit *test, unsigned int nr, size_t modulo);
void ref_link_page(struct ref *ref, unsigned int i, phys_addr_t phys,
		   u64 access);
long table_pages(void);
void expect_apart(struct kunit *test, struct dma_iova_state *states,
		  unsigned int nr);
bool ref_probe(struct ref *ref, unsigned int i, u32 at);

/* Larger than any cache of ranges, and than memory; not all IOMMUs reach 1 TiB. */
static inline size_t huge_size(void)
{
	u64 last = test_devices.alone->domain->geometry.aperture_end;

	return last / 64 >= SZ_1T ? SZ_1T : rounddown_pow_of_two(last / 64 + 1);
}

static inline dma_addr_t ref_iova(const struct ref *ref, unsigned int i)
{
	return ref->base + (u64)i * ref->granule;
}

/* Offset in the range, as the API counts. */
static inline size_t ref_offset(const struct ref *ref, unsigned int i)
{
	return ref_iova(ref, i) - ref->state.addr;
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

/**
 * struct run_list - runs for a call, and what the call said of them
 * @iter: for the call
 * @run: the runs
 * @nr: how many
 * @at: how many the call took
 * @widened: what it said went along
 * @nr_widened: how often it said that
 */
struct run_list {
	struct dma_iova_iter iter;
	struct dma_iova_run run[40];
	unsigned int nr;
	unsigned int at;
	struct {
		unsigned int run;
		size_t offset;
		size_t len;
	} widened[80];
	unsigned int nr_widened;
};

void run_list_reset(struct run_list *list);

/* dma-iova-test-random.c */
bool random_operations(struct ref *ref, struct test_pool *pool, u64 seed,
		       unsigned int count);

#endif /* _DMA_IOVA_TEST_H */
