/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Copyright (c) 2026 The Twostep authors */
/*
 * What the programs share that test on-demand paging through /dev/odp_test.
 *
 * An area is memory of this process that is registered with the device, and a value for
 * each of its pages: what must be read there, by the process and by the device. Pairs:
 * __odp_x() returns 0 or -errno, odp_x() ends the program unless it worked.
 *
 * The reference is the process' own page table as /proc/self/pagemap shows it. check() asks
 * of every page of an area:
 *
 *	a word in the mirror     the process has this very page there
 *	  and it is MAPPED       the IOMMU leads from its IOVA to it
 *	  and it is not          the IOMMU leads nowhere
 *	an entry of the device   the word is MAPPED, the address is its IOVA (or bus
 *	                         address), the rights are no more than the word's
 */
#ifndef UMEM_H
#define UMEM_H

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "odp_test_abi.h"

#define PAGE 4096UL
#define HUGE (2UL << 20)
#define COUNT(array) (sizeof(array) / sizeof(*(array)))

/* The mirror's words (linux/pfn-tag.h). */
#define WORD_READ (1ULL << 63)
#define WORD_WRITE (1ULL << 62)
#define WORD_MAPPED (1ULL << 61)
#define WORD_DIRTY (1ULL << 60)
#define WORD_HUGE (1ULL << 59)
#define WORD_PFN ((1ULL << 52) - 1)

#define ENTRY_READ 1ULL
#define ENTRY_WRITE 2ULL

#define PAGEMAP_PRESENT (1ULL << 63)
#define PAGEMAP_PFN ((1ULL << 55) - 1)

/* enum ib_umem_odp_stat */
enum odp_stat {
	PAGE_FAULTS,
	PAGE_FAULTS_HANDLED,
	PAGE_INVALIDATIONS,
	PAGE_INVALIDATIONS_HANDLED,
	PAGE_PREFETCH,
	FAULTS,
	INVALIDATIONS,
	PREFETCHES,
	RETRIES,
	IOMMU_CALLS,
	IOMMU_FLUSHES,
	METADATA_BYTES,
};

struct area {
	char *mem;
	size_t pages;
	uint64_t *value;
	struct odp_test_region region;
};

static int odp_file = -1, pagemap_file = -1;
/* What is going on, for the message when it fails. */
static char doing[160];

__attribute__((noreturn, format(printf, 1, 2))) static void
wrong(const char *format, ...)
{
	va_list arguments;

	printf("# wrong after %s: ", doing);
	va_start(arguments, format);
	vprintf(format, arguments);
	va_end(arguments);
	printf("\n");
	fflush(stdout);
	_exit(1);
}

static inline void odp_open(void)
{
	odp_file = open("/dev/odp_test", O_RDWR | O_CLOEXEC);
	pagemap_file = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	if (odp_file < 0 || pagemap_file < 0)
		wrong("cannot open /dev/odp_test or the pagemap: %m");
}

static inline char *area_at(const struct area *area, size_t page)
{
	return area->mem + page * PAGE;
}

/* Where in a page its value stands: not always at the start. */
static inline size_t value_offset(size_t page)
{
	return page % 512 * 8;
}

static inline volatile uint64_t *cpu_value(const struct area *area, size_t page)
{
	return (uint64_t *)(area_at(area, page) + value_offset(page));
}

static inline int __odp_register(struct area *area, uint32_t flags)
{
	area->region = (struct odp_test_region){
		.address = (uintptr_t)area->mem,
		.length = area->pages * PAGE,
		.flags = flags,
	};
	return ioctl(odp_file, ODP_TEST_REGISTER, &area->region) ? -errno : 0;
}

static inline void odp_register(struct area *area, uint32_t flags)
{
	int ret = __odp_register(area, flags);

	if (ret)
		wrong("cannot register: %s", strerror(-ret));
}

static inline void odp_release(struct area *area)
{
	if (ioctl(odp_file, ODP_TEST_RELEASE,
		  (unsigned long)area->region.handle))
		wrong("cannot release: %m");
}

static inline int __odp_fault(const struct area *area, size_t page, size_t nr,
			      bool write, uint32_t mode, uint64_t *present)
{
	struct odp_test_fault fault = {
		.address = (uintptr_t)area_at(area, page),
		.length = nr * PAGE,
		.handle = area->region.handle,
		.mode = mode,
		.write = write,
	};
	int ret = ioctl(odp_file, ODP_TEST_FAULT_IN, &fault) ? -errno : 0;

	if (present)
		*present = fault.present;
	return ret;
}

static inline void odp_fault(const struct area *area, size_t page, size_t nr,
			     bool write)
{
	int ret = __odp_fault(area, page, nr, write, ODP_TEST_FAULT, NULL);

	if (ret)
		wrong("fault of %zu pages at page %zu: %s", nr, page,
		      strerror(-ret));
}

static inline int __odp_access(const struct area *area, size_t page,
			       uint32_t flags, uint64_t *value)
{
	struct odp_test_access access = {
		.address = (uintptr_t)cpu_value(area, page),
		.value = *value,
		.handle = area->region.handle,
		.flags = flags,
	};

	if (ioctl(odp_file, ODP_TEST_ACCESS, &access))
		return -errno;
	*value = access.value;
	return 0;
}

/*
 * The device does as a device does: without an entry it faults and tries again, also if pages
 * went as fast as they came for as long as a fault tries.
 */
static inline int __odp_device(const struct area *area, size_t page, bool store,
			       uint64_t *value)
{
	int ret, tries = 100;

	for (;;) {
		ret = __odp_access(area, page, store ? ODP_TEST_STORE : 0,
				   value);
		if ((ret != -EFAULT && ret != -EACCES) || !tries--)
			return ret;
		ret = __odp_fault(area, page, 1, store, ODP_TEST_FAULT, NULL);
		if (ret && ret != -EBUSY)
			return ret;
	}
}

static inline void odp_store(struct area *area, size_t page, uint64_t value)
{
	int ret = __odp_device(area, page, true, &value);

	if (ret)
		wrong("device stores at page %zu: %s", page, strerror(-ret));
	if (area->value)
		area->value[page] = value;
}

static inline uint64_t odp_load(const struct area *area, size_t page)
{
	uint64_t value = 0;
	int ret = __odp_device(area, page, false, &value);

	if (ret)
		wrong("device loads from page %zu: %s", page, strerror(-ret));
	return value;
}

static inline void odp_look(const struct area *area,
			    struct odp_test_page *pages)
{
	struct odp_test_look look = {
		.address = (uintptr_t)area->mem,
		.nr = area->pages,
		.pages = (uintptr_t)pages,
		.handle = area->region.handle,
	};

	if (ioctl(odp_file, ODP_TEST_LOOK, &look))
		wrong("look: %m");
}

static inline struct odp_test_stats odp_stats(const struct area *area)
{
	struct odp_test_stats stats = { .handle = area->region.handle };

	if (ioctl(odp_file, ODP_TEST_STATS, &stats))
		wrong("stats: %m");
	return stats;
}

static inline uint64_t odp_stat(const struct area *area, enum odp_stat stat)
{
	return odp_stats(area).values[stat];
}

/* Pages whose words have all of some bits. */
static inline uint64_t count_words(const struct area *area, uint64_t bits)
{
	struct odp_test_page *pages = calloc(area->pages, sizeof(*pages));
	uint64_t count = 0;

	odp_look(area, pages);
	for (size_t i = 0; i < area->pages; i++)
		count += (pages[i].word & bits) == bits;
	free(pages);
	return count;
}

/* A counter of a file with lines "NAME VALUE"; the program ends if there is none. */
static inline uint64_t file_counter(const char *path, const char *wanted)
{
	FILE *counters = fopen(path, "re");
	unsigned long long value;
	char name[64];

	if (!counters)
		wrong("%s: %m", path);
	while (fscanf(counters, "%63s %llu", name, &value) == 2) {
		if (strcmp(name, wanted))
			continue;
		fclose(counters);
		return value;
	}
	wrong("%s does not have %s", path, wanted);
}

/* What the DMA core has counted so far, for anybody. */
static inline uint64_t core_counter(const char *name)
{
	return file_counter("/sys/kernel/debug/dma_iova/counters", name);
}

static inline void read_pagemap(const struct area *area, uint64_t *map)
{
	off_t at = (uintptr_t)area->mem / PAGE * 8;
	ssize_t got = pread(pagemap_file, map, area->pages * 8, at);

	if (got != (ssize_t)(area->pages * 8))
		wrong("pagemap: %zd", got);
}

/* What is wrong with a page, or NULL. */
static inline const char *page_fault_of(const struct area *area, size_t i,
					const struct odp_test_page *page,
					uint64_t map)
{
	uint64_t phys = (page->word & WORD_PFN) * PAGE, dma;
	bool mapped = page->word & WORD_MAPPED;

	if (page->word && (!(map & PAGEMAP_PRESENT) ||
			   (map & PAGEMAP_PFN) != (page->word & WORD_PFN)))
		return "the process has another page there, or none";
	if (area->region.way == ODP_TEST_WAY_IOVA &&
	    page->phys != (mapped ? phys : 0))
		return "the IOMMU leads elsewhere";
	if (!page->entry)
		return NULL;
	if (!mapped)
		return "the device has an entry for what is not linked";
	dma = area->region.way == ODP_TEST_WAY_IOVA ?
		      area->region.dma + i * PAGE :
		      phys;
	if ((page->entry & ~(PAGE - 1)) != dma)
		return "the device has another address";
	if (page->entry & ENTRY_WRITE && !(page->word & WORD_WRITE))
		return "the device may write and the word may not";
	return NULL;
}

/*
 * Compare the area with the page table. The kernel may move pages meanwhile: a difference
 * counts if the mirror said the same before and after.
 */
static inline void check(const struct area *area)
{
	struct odp_test_page *before = calloc(area->pages, sizeof(*before));
	struct odp_test_page *after = calloc(area->pages, sizeof(*after));
	uint64_t *map = calloc(area->pages, 8);
	const char *fault;
	int tries = 100;
	size_t i;

again:
	odp_look(area, before);
	read_pagemap(area, map);
	odp_look(area, after);
	for (i = 0; i < area->pages; i++) {
		fault = page_fault_of(area, i, &before[i], map[i]);
		if (!fault)
			continue;
		if (memcmp(before, after, area->pages * sizeof(*before)) &&
		    tries--)
			goto again;
		wrong("page %zu: %s: word %llx entry %llx phys %llx pagemap %llx",
		      i, fault, before[i].word, before[i].entry, before[i].phys,
		      (unsigned long long)map[i]);
	}
	free(map);
	free(after);
	free(before);
}

/* The process and the device read what must be there. */
static inline void check_value(const struct area *area, size_t page)
{
	uint64_t value = *cpu_value(area, page);

	if (value != area->value[page])
		wrong("page %zu holds %llx and not %llx", page,
		      (unsigned long long)value,
		      (unsigned long long)area->value[page]);
	value = odp_load(area, page);
	if (value != area->value[page])
		wrong("the device reads %llx from page %zu and not %llx",
		      (unsigned long long)value, page,
		      (unsigned long long)area->value[page]);
}

/* Memory that begins @skew pages behind a 2 MiB border. */
static inline struct area map_area(size_t pages, size_t skew, int flags, int fd)
{
	size_t room = pages * PAGE + 2 * HUGE;
	char *all = mmap(NULL, room, PROT_NONE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	struct area area = { .pages = pages };

	if (all == MAP_FAILED)
		wrong("no address space: %m");
	area.mem = (char *)(((uintptr_t)all + HUGE - 1) & ~(HUGE - 1)) +
		   skew * PAGE;
	if (mmap(area.mem, pages * PAGE, PROT_READ | PROT_WRITE,
		 flags | MAP_FIXED, fd, 0) == MAP_FAILED)
		wrong("no memory: %m");
	area.value = calloc(pages, sizeof(*area.value));
	return area;
}

static inline struct area map_anonymous(size_t pages, size_t skew)
{
	return map_area(pages, skew, MAP_PRIVATE | MAP_ANONYMOUS, -1);
}

/* The place and what was around it stays mapped without rights: nobody else gets it. */
static inline void unmap_area(struct area *area)
{
	munmap(area->mem, area->pages * PAGE);
	free(area->value);
}

static inline bool write_file(const char *path, const char *format, ...)
{
	char text[128];
	va_list arguments;
	int fd = open(path, O_WRONLY | O_CLOEXEC), len;
	bool good;

	va_start(arguments, format);
	len = vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	good = fd >= 0 && write(fd, text, len) == len;
	if (fd >= 0)
		close(fd);
	return good;
}

#define SKIPPED 4

/* Run a case in a process of its own and say how it ended, as KTAP. Returns whether it failed. */
static inline bool run_case(size_t number, const char *name,
			    void (*run)(const void *what), const void *what)
{
	bool skipped;
	int status;
	pid_t child;

	fflush(stdout);
	child = fork();
	if (!child) {
		snprintf(doing, sizeof(doing), "%s", name);
		odp_open();
		run(what);
		fflush(stdout);
		_exit(0);
	}
	if (waitpid(child, &status, 0) != child)
		wrong("no child: %m");
	skipped = WIFEXITED(status) && WEXITSTATUS(status) == SKIPPED;
	printf("%sok %zu %s%s\n", status && !skipped ? "not " : "", number,
	       name, skipped ? " # SKIP" : "");
	return status && !skipped;
}

#endif /* UMEM_H */
