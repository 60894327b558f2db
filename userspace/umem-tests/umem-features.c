// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
// Copyright (c) 2026 The Twostep authors
/*
 * umem-features: does on-demand paging do what rdma/ib_umem_odp.h says?
 *
 * Needs root and the module odp_test. Each case in a process of its own; KTAP on stdout. The
 * cases assert data, the state of every page (see umem.h), and the counters that tell how it
 * came about. Status 1 if a case failed.
 */
#define _GNU_SOURCE
#include <glob.h>
#include <signal.h>

#include "umem.h"

#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT 21
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

__attribute__((noreturn)) static void skip(const char *why)
{
	printf("# skipped: %s\n", why);
	fflush(stdout);
	_exit(SKIPPED);
}

static void odp_register_real(struct area *area, uint32_t flags)
{
	int ret = __odp_register(area, flags);

	if (ret == -ENODEV)
		skip("no iommu-testdev or edu in this machine");
	if (ret)
		wrong("cannot register: %s", strerror(-ret));
}

static void expect(uint64_t is, uint64_t shall, const char *what)
{
	if (is != shall)
		wrong("%s: %llu and not %llu", what, (unsigned long long)is,
		      (unsigned long long)shall);
}

static void expect_error(int is, int shall, const char *what)
{
	if (is != -shall)
		wrong("%s: %s and not %s", what, strerror(-is),
		      strerror(shall));
}

static void the_device_sees_what_the_process_sees(void)
{
	struct area area = map_anonymous(1200, 3);

	odp_register_real(&area, ODP_TEST_WRITE);
	expect(count_words(&area, WORD_READ), 0, "words before a fault");
	for (size_t i = 0; i < area.pages; i += 7) {
		*cpu_value(&area, i) = 5 * i + 1;
		if (odp_load(&area, i) != 5 * i + 1)
			wrong("load of page %zu", i);
		odp_store(&area, i, 7 * i + 2);
		check_value(&area, i);
	}
	check(&area);
	odp_release(&area);
}

static void an_invalidation_is_one_flush(void)
{
	struct area area = map_anonymous(2048, 0);
	uint64_t flushes;

	madvise(area.mem, area.pages * PAGE, MADV_NOHUGEPAGE);
	odp_register_real(&area, ODP_TEST_WRITE);
	odp_fault(&area, 0, area.pages, true);
	expect(count_words(&area, WORD_MAPPED), area.pages, "mapped pages");
	check(&area);
	flushes = core_counter("flushes");
	madvise(area.mem, area.pages * PAGE, MADV_DONTNEED);
	flushes = core_counter("flushes") - flushes;
	expect(count_words(&area, WORD_READ), 0, "words after it");
	expect(flushes, area.region.way == ODP_TEST_WAY_IOVA, "flushes");
	expect(odp_stat(&area, PAGE_INVALIDATIONS), area.pages, "pages");
	check(&area);
	odp_release(&area);
}

static void a_huge_page_is_one_word(void)
{
	struct area area = map_anonymous(2048, 0);
	uint64_t bytes;

	if (madvise(area.mem, area.pages * PAGE, MADV_HUGEPAGE))
		skip("no transparent huge pages");
	memset(area.mem, 1, area.pages * PAGE);
	madvise(area.mem, area.pages * PAGE, MADV_COLLAPSE);
	odp_register_real(&area, ODP_TEST_WRITE);
	bytes = odp_stat(&area, METADATA_BYTES);
	odp_fault(&area, 0, area.pages, true);
	if (count_words(&area, WORD_HUGE) != area.pages)
		skip("the kernel gave no huge pages");
	bytes = odp_stat(&area, METADATA_BYTES) - bytes;
	if (bytes > 4 * 64)
		wrong("%llu bytes for 4 huge blocks",
		      (unsigned long long)bytes);
	check(&area);
	/* A page of a huge block takes the block out; the others come back small or huge. */
	madvise(area_at(&area, 700), PAGE, MADV_DONTNEED);
	check(&area);
	expect(*(uint64_t *)area_at(&area, 700), 0, "the page");
	odp_fault(&area, 0, area.pages, true);
	check(&area);
	odp_store(&area, 701, 99);
	check_value(&area, 701);
	odp_release(&area);
}

static void a_read_only_region_cannot_be_written(void)
{
	struct area area = map_anonymous(16, 1);
	uint64_t value = 1;

	memset(area.mem, 0x55, area.pages * PAGE);
	odp_register_real(&area, 0);
	odp_fault(&area, 0, area.pages, false);
	expect(count_words(&area, WORD_WRITE), 0, "writable words");
	expect_error(__odp_fault(&area, 0, 1, true, ODP_TEST_FAULT, NULL),
		     EPERM, "a fault to write");
	expect_error(__odp_access(&area, 0, ODP_TEST_STORE, &value), EACCES,
		     "a store");
	check(&area);
	odp_release(&area);
}

static void a_pci_function_is_held_to_it(void)
{
	struct area area = map_anonymous(16, 1);
	uint64_t value = 0;
	int ret;

	odp_register_real(&area, ODP_TEST_WRITE);
	odp_fault(&area, 0, 8, true);
	ret = __odp_access(&area, 3, ODP_TEST_DMA, &value);
	if (ret == -EOPNOTSUPP)
		skip("no iommu-testdev in this machine");
	expect_error(ret, 0, "a store to a linked page");
	expect((uint32_t)*cpu_value(&area, 3), ODP_TEST_DMA_VALUE, "its value");
	expect_error(__odp_access(&area, 9, ODP_TEST_DMA, &value), EFAULT,
		     "a store where there is no entry");
	odp_release(&area);
}

/* By the I/O page table and the IOTLB, whatever the device believes; lazily flushed or not. */
static void the_iommu_refuses_the_rest(void)
{
	struct area area = map_anonymous(16, 1), guarded = map_anonymous(4, 1);
	uint64_t value = 0;
	int ret;

	memset(guarded.mem, 0x55, guarded.pages * PAGE);
	odp_register_real(&area, ODP_TEST_WRITE);
	odp_fault(&area, 0, 8, true);
	ret = __odp_access(&area, 3, ODP_TEST_DMA | ODP_TEST_RAW, &value);
	if (area.region.way != ODP_TEST_WAY_IOVA) {
		expect_error(ret, EOPNOTSUPP, "a store that nobody guards");
		odp_release(&area);
		return;
	}
	expect_error(ret, 0, "a store to a linked page");
	expect_error(__odp_access(&area, 9, ODP_TEST_DMA | ODP_TEST_RAW,
				  &value),
		     EACCES, "a store where nothing is linked");
	/* The IOTLB knows page 3. */
	madvise(area_at(&area, 3), PAGE, MADV_DONTNEED);
	expect_error(__odp_access(&area, 3, ODP_TEST_DMA | ODP_TEST_RAW,
				  &value),
		     EACCES, "a store to a page that went");
	expect(*cpu_value(&area, 3), 0, "the page that came");
	odp_release(&area);

	odp_register_real(&guarded, 0);
	odp_fault(&guarded, 0, guarded.pages, false);
	expect_error(__odp_access(&guarded, 2, ODP_TEST_DMA | ODP_TEST_RAW,
				  &value),
		     EACCES, "a store to a page for reading");
	expect(*cpu_value(&guarded, 2), 0x5555555555555555, "that page");
	odp_release(&guarded);
}

static void a_region_of_any_length_costs_the_same(void)
{
	static const unsigned int shifts[] = { 21, 30, 36, 40, 46 };
	uint64_t bytes[COUNT(shifts)];
	bool virt = false;
	int ret;

	for (size_t i = 0; i < COUNT(shifts); i++) {
		struct area area = { .pages = 1UL << (shifts[i] - 12) };

		area.mem = mmap(NULL, area.pages * PAGE, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
				0);
		if (area.mem == MAP_FAILED)
			wrong("no address space for 2^%u bytes: %m", shifts[i]);
		ret = __odp_register(&area, virt ? ODP_TEST_VIRT : 0);
		if (shifts[i] > 36 && (ret == -ENOMEM || ret == -ENODEV)) {
			printf("# 2^%u bytes: more than the IOMMU has\n",
			       shifts[i]);
			virt = true;
			odp_register(&area, ODP_TEST_VIRT);
		} else if (ret) {
			wrong("2^%u bytes: %s", shifts[i], strerror(-ret));
		}
		bytes[i] = odp_stat(&area, METADATA_BYTES);
		expect(bytes[i], bytes[0], "bytes");
		odp_release(&area);
		munmap(area.mem, area.pages * PAGE);
	}
	if (bytes[0] > 4096)
		wrong("%llu bytes", (unsigned long long)bytes[0]);
}

static void bad_ranges_are_refused(void)
{
	struct area area = { .mem = (char *)-PAGE, .pages = 2 };

	expect_error(__odp_register(&area, ODP_TEST_VIRT), EOVERFLOW,
		     "around the end");
	area = (struct area){ .mem = (char *)PAGE, .pages = 0 };
	expect_error(__odp_register(&area, ODP_TEST_VIRT), EINVAL, "nothing");
	area = map_anonymous(4, 0);
	odp_register(&area, ODP_TEST_VIRT);
	expect_error(__odp_fault(&area, 3, 2, false, ODP_TEST_FAULT, NULL),
		     EFAULT, "a fault across the end");
	expect_error(__odp_fault(&area, 0, 0, false, ODP_TEST_FAULT, NULL),
		     EFAULT, "a fault of nothing");
	odp_release(&area);
}

static void a_hole_ends_a_fault_and_not_a_prefetch(void)
{
	struct area area = map_anonymous(32, 0);
	uint64_t present;

	odp_register_real(&area, ODP_TEST_WRITE);
	munmap(area_at(&area, 10), 2 * PAGE);
	expect_error(__odp_fault(&area, 0, 32, true, ODP_TEST_FAULT, &present),
		     EFAULT, "a fault over a hole");
	expect(present, 10, "pages before the hole");
	expect_error(__odp_fault(&area, 0, 32, true, ODP_TEST_PREFETCH,
				 &present),
		     0, "a prefetch over a hole");
	expect(present, 30, "pages around the hole");
	check(&area);
	odp_release(&area);
}

/* Behind the end of the file there are addresses, but no pages. */
static void all_of_a_file_that_ends_is_had(void)
{
	int fd = memfd_create("short", MFD_CLOEXEC);
	struct area area;
	uint64_t present;

	if (fd < 0 || ftruncate(fd, 16 * PAGE))
		wrong("no file: %m");
	area = map_area(32, 3, MAP_SHARED, fd);
	odp_register_real(&area, ODP_TEST_WRITE);
	expect_error(__odp_fault(&area, 0, 32, true, ODP_TEST_PREFETCH,
				 &present),
		     0, "a prefetch");
	expect(present, 16, "pages of a prefetch");
	check(&area);
	madvise(area.mem, area.pages * PAGE, MADV_DONTNEED);
	if (ftruncate(fd, 0) || ftruncate(fd, 16 * PAGE))
		wrong("ftruncate: %m");
	expect_error(__odp_fault(&area, 0, 32, true, ODP_TEST_FAULT, &present),
		     EFAULT, "a fault");
	expect(present, 16, "pages of a fault");
	check(&area);
	odp_release(&area);
	close(fd);
}

static void a_snapshot_brings_nothing_in(void)
{
	struct area area = map_anonymous(64, 0);
	uint64_t present;

	for (size_t i = 0; i < area.pages; i += 2)
		*cpu_value(&area, i) = i;
	odp_register_real(&area, ODP_TEST_WRITE);
	expect_error(__odp_fault(&area, 0, area.pages, true, ODP_TEST_SNAPSHOT,
				 &present),
		     0, "a snapshot");
	expect(present, area.pages / 2, "pages");
	expect(count_words(&area, WORD_READ), area.pages / 2, "words");
	expect(odp_stat(&area, PAGE_PREFETCH), area.pages / 2, "counted");
	expect(odp_stat(&area, PAGE_FAULTS), 0, "faults");
	check(&area);
	odp_release(&area);
}

static void a_huge_entry_is_filled_whole(void)
{
	size_t pages = 4 * HUGE / PAGE;
	struct area area = { .pages = pages };

	area.mem = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
	if (area.mem == MAP_FAILED)
		skip("no hugetlb pages");
	area.value = calloc(pages, sizeof(*area.value));
	odp_register_real(&area, ODP_TEST_WRITE | ODP_TEST_HUGETLB);
	expect(area.region.page_shift, 21, "log2 of an entry");
	/* One byte brings a whole entry in. */
	odp_fault(&area, 700, 1, true);
	expect(count_words(&area, WORD_MAPPED), 512, "mapped pages");
	check(&area);
	odp_store(&area, 600, 1);
	odp_store(&area, 1023, 2);
	check_value(&area, 600);
	check_value(&area, 1023);
	munmap(area_at(&area, 512), HUGE);
	expect(count_words(&area, WORD_READ), 0, "words after unmapping");
	check(&area);
	odp_release(&area);
}

static void memory_that_is_not_huge_has_no_huge_entries(void)
{
	struct area area = map_anonymous(1024, 0);
	int ret;

	madvise(area.mem, area.pages * PAGE, MADV_NOHUGEPAGE);
	odp_register_real(&area, ODP_TEST_WRITE | ODP_TEST_HUGETLB);
	/* Unequal rights in one entry. */
	mprotect(area_at(&area, 5), PAGE, PROT_READ);
	ret = __odp_fault(&area, 0, 1, true, ODP_TEST_FAULT, NULL);
	if (ret != -EINVAL && ret != -EPERM)
		wrong("a fault: %s", strerror(-ret));
	check(&area);
	odp_release(&area);
}

static void a_child_keeps_its_parent(void)
{
	struct area parent = {}, child = map_anonymous(1024, 0);

	odp_register_real(&parent, ODP_TEST_IMPLICIT | ODP_TEST_WRITE);
	child.region = (struct odp_test_region){
		.address = (uintptr_t)child.mem,
		.length = child.pages * PAGE,
		.flags = ODP_TEST_CHILD,
		.parent = parent.region.handle,
	};
	if (ioctl(odp_file, ODP_TEST_REGISTER, &child.region))
		wrong("no child: %m");
	odp_store(&child, 17, 4711);
	check_value(&child, 17);
	check(&child);
	expect(odp_stat(&parent, PAGE_FAULTS), odp_stat(&child, PAGE_FAULTS),
	       "faults of the parent");
	odp_release(&child);
	if (!odp_stat(&parent, PAGE_FAULTS))
		wrong("a child's faults were forgotten");
	child.region.parent = parent.region.handle;
	if (ioctl(odp_file, ODP_TEST_REGISTER, &child.region))
		wrong("no second child: %m");
	odp_release(&parent);
	odp_store(&child, 18, 4712);
	check_value(&child, 18);
	odp_release(&child);
}

static void a_software_device_sees_the_same(void)
{
	struct area area = map_anonymous(600, 5);

	odp_register(&area, ODP_TEST_VIRT | ODP_TEST_WRITE);
	for (size_t i = 0; i < area.pages; i += 11) {
		*cpu_value(&area, i) = i;
		if (odp_load(&area, i) != i)
			wrong("load of page %zu", i);
		odp_store(&area, i, i + 1);
		check_value(&area, i);
	}
	expect(count_words(&area, WORD_MAPPED), 0, "mapped pages");
	check(&area);
	odp_release(&area);
}

/* What the device wrote outlives the page: it went to the file. */
static void what_the_device_wrote_is_kept(uint32_t flags)
{
	char name[] = "/root/umem-odp.XXXXXX";
	int fd = mkstemp(name), direct;
	struct area area;
	uint64_t value;
	size_t i;

	if (fd < 0 || ftruncate(fd, 64 * PAGE))
		wrong("no file: %m");
	unlink(name);
	area = map_area(64, 0, MAP_SHARED, fd);
	if (flags & ODP_TEST_VIRT)
		odp_register(&area, flags);
	else
		odp_register_real(&area, flags);
	for (i = 0; i < area.pages; i++)
		odp_store(&area, i, i + 1000);
	/* Nobody but the device wrote: the page table does not know. */
	for (direct = 0; direct < 3; direct++) {
		madvise(area.mem, area.pages * PAGE, MADV_PAGEOUT);
		fsync(fd);
		posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	}
	check(&area);
	munmap(area.mem, area.pages * PAGE);
	fsync(fd);
	posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	for (i = 0; i < area.pages; i++) {
		if (pread(fd, &value, 8, i * PAGE + value_offset(i)) != 8)
			wrong("read: %m");
		expect(value, i + 1000, "the file");
	}
	odp_release(&area);
	close(fd);
}

static void what_a_real_device_wrote_is_kept(void)
{
	what_the_device_wrote_is_kept(ODP_TEST_WRITE);
}

static void what_software_wrote_is_kept(void)
{
	what_the_device_wrote_is_kept(ODP_TEST_WRITE | ODP_TEST_VIRT);
}

/*
 * The process has given the pages up, and may write them: the device may as well, without a
 * fault that would tell the kernel. Only the mirror knows that they were written.
 */
static void a_freed_page_that_the_device_wrote_is_kept(void)
{
	struct area area = map_anonymous(64, 0);
	uint64_t value;

	madvise(area.mem, area.pages * PAGE, MADV_NOHUGEPAGE);
	memset(area.mem, 1, area.pages * PAGE);
	odp_register_real(&area, ODP_TEST_WRITE);
	if (madvise(area.mem, area.pages * PAGE, MADV_FREE))
		skip("no MADV_FREE");
	expect_error(__odp_fault(&area, 0, area.pages, true, ODP_TEST_SNAPSHOT,
				 NULL),
		     0, "a snapshot");
	if (count_words(&area, WORD_WRITE | WORD_MAPPED) != area.pages)
		skip("the pages are not writable any more");
	for (size_t i = 0; i < area.pages; i += 2) {
		value = i + 77;
		expect_error(__odp_access(&area, i, ODP_TEST_STORE, &value), 0,
			     "a store without a fault");
	}
	madvise(area.mem, area.pages * PAGE, MADV_PAGEOUT);
	for (size_t i = 0; i < area.pages; i += 2)
		expect(*cpu_value(&area, i), i + 77, "the page");
	check(&area);
	odp_release(&area);
}

static void a_fork_has_the_old_pages(void)
{
	struct area area = map_anonymous(64, 0);
	int status;
	size_t i;

	odp_register_real(&area, ODP_TEST_WRITE);
	for (i = 0; i < area.pages; i++)
		odp_store(&area, i, i);
	int go[2];

	if (pipe(go))
		wrong("pipe: %m");
	pid_t child = fork();

	if (!child) {
		char byte;

		if (read(go[0], &byte, 1) != 1)
			_exit(2);
		for (i = 0; i < area.pages; i++)
			if (*cpu_value(&area, i) != i)
				_exit(1);
		_exit(0);
	}
	for (i = 0; i < area.pages; i++)
		odp_store(&area, i, i + 1);
	check(&area);
	if (write(go[1], "", 1) != 1 || waitpid(child, &status, 0) != child ||
	    status)
		wrong("the child saw what the parent's device wrote");
	for (i = 0; i < area.pages; i++)
		check_value(&area, i);
	odp_release(&area);
}

/* A counter of the first device that has umems. */
static uint64_t device_counter(const char *name)
{
	glob_t found = {};
	uint64_t value;
	size_t i = 0;

	glob("/sys/kernel/debug/umem_odp/*/counters", 0, NULL, &found);
	while (i < found.gl_pathc && !file_counter(found.gl_pathv[i], "umems"))
		i++;
	if (i == found.gl_pathc)
		wrong("no device has umems");
	value = file_counter(found.gl_pathv[i], name);
	globfree(&found);
	return value;
}

static void a_device_counts_for_all_its_regions(void)
{
	struct area area = map_anonymous(64, 0), other = map_anonymous(64, 0);
	uint64_t faults, bytes;

	odp_register_real(&area, ODP_TEST_WRITE);
	faults = device_counter("page_faults");
	bytes = device_counter("metadata_bytes");
	odp_register_real(&other, ODP_TEST_WRITE);
	odp_fault(&area, 0, 10, true);
	odp_fault(&other, 3, 20, true);
	expect(device_counter("umems"), 2, "umems");
	expect(device_counter("page_faults"), faults + 30, "pages");
	expect(device_counter("metadata_bytes"),
	       odp_stat(&area, METADATA_BYTES) +
		       odp_stat(&other, METADATA_BYTES),
	       "bytes");
	/* Events stay counted, memory does not. */
	odp_release(&other);
	expect(device_counter("page_faults"), faults + 30,
	       "pages, also of who is gone");
	madvise(area.mem, area.pages * PAGE, MADV_DONTNEED);
	expect(device_counter("metadata_bytes"), bytes, "bytes in the end");
	odp_release(&area);
}

/* lib/test_hmm_uapi.h: a device with memory of its own, that takes over pages. */
struct hmm_dmirror_cmd {
	uint64_t addr, ptr, npages, cpages, faults;
};
#define HMM_DMIRROR_MIGRATE_TO_DEV _IOWR('H', 0x02, struct hmm_dmirror_cmd)

/* The device gives them back when its file is closed: at the end of the process. */
static void give_to_device(const struct area *area, size_t page, size_t nr)
{
	static int file = -1;
	struct hmm_dmirror_cmd command = {
		.addr = (uintptr_t)area_at(area, page),
		.ptr = (uintptr_t)malloc(nr * PAGE),
		.npages = nr,
	};

	if (file < 0)
		file = open("/dev/hmm_dmirror0", O_RDWR | O_CLOEXEC);
	if (file < 0)
		wrong("no device with memory (modprobe test_hmm): %m");
	if (ioctl(file, HMM_DMIRROR_MIGRATE_TO_DEV, &command))
		wrong("the pages do not move to the device: %m");
	expect(command.cpages, nr, "pages that moved");
}

/* Nobody but their device can reach them: they come home, and never under a wrong address. */
static void pages_of_another_device_come_home(void)
{
	struct area area = map_anonymous(64, 5);

	madvise(area.mem, area.pages * PAGE, MADV_NOHUGEPAGE);
	odp_register_real(&area, ODP_TEST_WRITE);
	for (size_t i = 0; i < area.pages; i++)
		odp_store(&area, i, area.value[i] = i + 500);
	give_to_device(&area, 8, 16);
	expect(count_words(&area, WORD_READ), area.pages - 16, "pages left");
	check(&area);
	expect_error(__odp_fault(&area, 0, area.pages, true, ODP_TEST_SNAPSHOT,
				 NULL),
		     0, "a snapshot");
	expect(count_words(&area, WORD_READ), area.pages - 16,
	       "pages that a snapshot brings home");
	for (size_t i = 8; i < 24; i++)
		if (odp_load(&area, i) != area.value[i])
			wrong("load of page %zu", i);
	expect(count_words(&area, WORD_READ | WORD_MAPPED), area.pages,
	       "pages at home");
	check(&area);
	give_to_device(&area, 8, 16);
	odp_fault(&area, 0, area.pages, true);
	for (size_t i = 0; i < area.pages; i++)
		check_value(&area, i);
	check(&area);
	odp_release(&area);
}

/* A device faults for whoever registered the memory, and finds out when that one is gone. */
static void the_memory_of_the_dead_is_not_faulted_in(void)
{
	struct area *area = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
				 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int registered[2], status;
	char byte;

	if (pipe(registered))
		wrong("pipe: %m");
	pid_t child = fork();

	if (!child) {
		*area = map_anonymous(1024, 9);
		odp_register_real(area, ODP_TEST_WRITE);
		if (write(registered[1], "", 1) != 1)
			_exit(1);
		pause();
	}
	/* A child that ends early closes the last one. */
	close(registered[1]);
	if (read(registered[0], &byte, 1) != 1) {
		waitpid(child, &status, 0);
		_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 1);
	}
	odp_fault(area, 0, 700, true);
	expect(odp_stat(area, PAGE_FAULTS), 700, "pages of the child");
	if (kill(child, SIGKILL) || waitpid(child, &status, 0) != child ||
	    !WIFSIGNALED(status))
		wrong("the child is not dead");
	expect_error(__odp_fault(area, 0, 8, true, ODP_TEST_FAULT, NULL), ESRCH,
		     "a fault");
	expect_error(__odp_fault(area, 0, 8, true, ODP_TEST_PREFETCH, NULL),
		     ESRCH, "a prefetch");
	expect(count_words(area, WORD_READ), 0, "pages of the dead");
	odp_release(area);
}

static void a_process_may_die_with_it(void)
{
	int status;
	pid_t child = fork();

	if (!child) {
		struct area area = map_anonymous(1024, 9);

		close(odp_file);
		odp_open();
		odp_register_real(&area, ODP_TEST_WRITE);
		odp_fault(&area, 0, area.pages, true);
		_exit(0);
	}
	if (waitpid(child, &status, 0) != child || status)
		wrong("the child ended with %d", status);
}

#define CASE(name) { #name, name }

static const struct test_case {
	const char *name;
	void (*run)(void);
} cases[] = {
	CASE(the_device_sees_what_the_process_sees),
	CASE(an_invalidation_is_one_flush),
	CASE(a_huge_page_is_one_word),
	CASE(a_read_only_region_cannot_be_written),
	CASE(a_pci_function_is_held_to_it),
	CASE(the_iommu_refuses_the_rest),
	CASE(a_region_of_any_length_costs_the_same),
	CASE(bad_ranges_are_refused),
	CASE(a_hole_ends_a_fault_and_not_a_prefetch),
	CASE(all_of_a_file_that_ends_is_had),
	CASE(a_snapshot_brings_nothing_in),
	CASE(a_huge_entry_is_filled_whole),
	CASE(memory_that_is_not_huge_has_no_huge_entries),
	CASE(a_child_keeps_its_parent),
	CASE(a_software_device_sees_the_same),
	CASE(what_a_real_device_wrote_is_kept),
	CASE(what_software_wrote_is_kept),
	CASE(a_freed_page_that_the_device_wrote_is_kept),
	CASE(a_fork_has_the_old_pages),
	CASE(a_device_counts_for_all_its_regions),
	CASE(pages_of_another_device_come_home),
	CASE(the_memory_of_the_dead_is_not_faulted_in),
	CASE(a_process_may_die_with_it),
};

static void run(const void *what)
{
	const struct test_case *test = what;

	test->run();
}

int main(void)
{
	int failed = 0;

	printf("KTAP version 1\n1..%zu\n", COUNT(cases));
	for (size_t i = 0; i < COUNT(cases); i++)
		failed += run_case(i + 1, cases[i].name, run, &cases[i]);
	return !!failed;
}
