// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
// Copyright (c) 2026 The Twostep authors
/*
 * Registering on-demand paging memory: of any length, at any address, before there is memory,
 * and more than there is; and the errno of what is refused.
 *
 * An MR ends with its last byte: that is written, and one byte more is refused. It begins with
 * its first in the same way.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/capability.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "peer.h"
#include "proc.h"
#include "suite.h"

#define ON_DEMAND (ALL_ACCESS | IBV_ACCESS_ON_DEMAND)
#define GIB (1UL << 30)
#define TIB (1UL << 40)

/* Address space without memory yet. */
static uint8_t *reserve(size_t size)
{
	void *bytes = mmap(NULL, size, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (bytes == MAP_FAILED)
		skip(MACHINE, "no %zu GiB of addresses: %s", size / GIB,
		     strerror(errno));
	return bytes;
}

/* LENGTH bytes of an MR, the first of them called IOVA on the wire. */
static struct region some(const struct peer *peer, uint8_t *bytes,
			  size_t length, uint64_t iova)
{
	struct region region = {
		.bytes = bytes, .size = length, .iova = iova, .odp = true
	};

	region.mr = ibv_reg_mr_iova(peer->fabric.pd, bytes, length, iova,
				    ON_DEMAND);
	/* Lists of all its pages, of 2 GiB: more than the kernel gives at once. */
	if (!region.mr && errno == ENOMEM && length == TIB)
		skip(KERNEL, "it has no room for the lists of a TiB");
	if (!region.mr)
		wrong("%zu bytes are not registered: %s", length,
		      strerror(errno));
	return region;
}

/* A part of a registered region, small enough to remember. */
static struct region part(const struct region *whole, size_t at, size_t length,
			  uint8_t *want)
{
	memcpy(want, whole->bytes + at, length);
	return (struct region){ .bytes = whole->bytes + at,
				.size = length,
				.want = want,
				.mr = whole->mr,
				.iova = whole->iova + at,
				.odp = true };
}

/* Its ends, and what is beyond them. */
static void has_two_ends(struct peer *peer, const struct region *whole)
{
	size_t length = whole->size < PAGE ? whole->size : PAGE;
	uint32_t rkey = whole->mr->rkey;
	uint8_t want[PAGE];
	struct region region;

	region = part(whole, 0, length, want);
	peer_writes(peer, &region, 0, length);
	peer_reads(peer, &region, 0, length);
	region = part(whole, whole->size - length, length, want);
	peer_writes(peer, &region, 0, length);
	peer_reads(peer, &region, length - 1, 1);
	peer_fails(peer, IBV_WR_RDMA_WRITE, region.iova, rkey, length + 1,
		   IBV_WC_REM_ACCESS_ERR);
	peer_fails(peer, IBV_WR_RDMA_READ, whole->iova - 1, rkey, 2,
		   IBV_WC_REM_ACCESS_ERR);
	region_check(&region);
}

static void deregister(struct region *region)
{
	int ret = ibv_dereg_mr(region->mr);

	if (ret)
		wrong("not deregistered: %s", strerror(ret));
}

static void any_length(const void *what)
{
	static const size_t lengths[] = {
		1, 2, 4095, 4096, 4097, 2UL << 20, (2UL << 20) + 1, GIB - 1, GIB
	};
	uint8_t *bytes = reserve(GIB + 2 * PAGE);
	struct peer peer;

	(void)what;
	peer_open(&peer, 2 * PAGE);
	for (size_t i = 0; i < COUNT(lengths); i++) {
		struct region region;

		snprintf(doing, sizeof(doing), "%zu bytes", lengths[i]);
		region = some(&peer, bytes + PAGE, lengths[i],
			      (uintptr_t)bytes + PAGE);
		has_two_ends(&peer, &region);
		deregister(&region);
	}
	peer_close(&peer);
}

static void any_offset(const void *what)
{
	static const size_t offsets[] = { 1, 7, 64, 2048, 4095 };
	uint8_t *bytes = reserve(8 * PAGE);
	struct peer peer;

	(void)what;
	peer_open(&peer, 2 * PAGE);
	for (size_t i = 0; i < COUNT(offsets); i++) {
		size_t length = 1 + below(3 * PAGE);
		struct region region;

		snprintf(doing, sizeof(doing), "%zu bytes at %zu", length,
			 offsets[i]);
		region = some(&peer, bytes + PAGE + offsets[i], length,
			      (uintptr_t)bytes + PAGE + offsets[i]);
		has_two_ends(&peer, &region);
		deregister(&region);
	}
	peer_close(&peer);
}

/* Congruent to the memory's within a page, as ibv_reg_mr_iova(3) wants it. */
static void any_iova(const void *what)
{
	static const uint64_t pages[] = { PAGE, 0x123456789000UL, 1ULL << 63,
					  -16 * PAGE };
	uint8_t *bytes = reserve(8 * PAGE);
	struct peer peer;

	(void)what;
	peer_open(&peer, 2 * PAGE);
	for (size_t i = 0; i < COUNT(pages); i++) {
		size_t offset = below(PAGE), length = 1 + below(3 * PAGE);
		struct region region;

		snprintf(doing, sizeof(doing), "%zu bytes at %#llx", length,
			 (unsigned long long)(pages[i] + offset));
		region = some(&peer, bytes + PAGE + offset, length,
			      pages[i] + offset);
		has_two_ends(&peer, &region);
		deregister(&region);
	}
	peer_close(&peer);
}

/* More than any machine holds: registered at once, and used where it is touched. */
static void terabyte(const void *what)
{
	uint8_t *bytes = reserve(TIB + 2 * PAGE);
	struct region whole, region;
	uint8_t want[2 * PAGE];
	struct peer peer;

	(void)what;
	peer_open(&peer, 2 * PAGE);
	whole = some(&peer, bytes + PAGE, TIB, (uintptr_t)bytes + PAGE);
	has_two_ends(&peer, &whole);
	for (int i = 0; i < 64; i++) {
		size_t at = below(TIB - 2 * PAGE);

		snprintf(doing, sizeof(doing), "byte %zu", at);
		region = part(&whole, at, 2 * PAGE, want);
		peer_writes(&peer, &region, below(PAGE), 1 + below(PAGE));
		peer_reads(&peer, &region, below(PAGE), 1 + below(PAGE));
	}
	deregister(&whole);
	peer_close(&peer);
}

/*
 * There is nothing when it is registered, and then there is. At an address where nobody else's
 * memory comes meanwhile.
 */
static void before_there_is_memory(const void *what)
{
	uint8_t *bytes = (uint8_t *)(1UL << 44), want[4 * PAGE];
	struct region whole, region;
	struct peer peer;

	(void)what;
	peer_open(&peer, 4 * PAGE);
	whole = some(&peer, bytes, 4 * PAGE, (uintptr_t)bytes);
	peer_fails(&peer, IBV_WR_RDMA_WRITE, whole.iova, whole.mr->rkey, 8,
		   IBV_WC_REM_ACCESS_ERR);
	if (mmap(bytes, 4 * PAGE, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1,
		 0) != bytes)
		wrong("mmap: %s", strerror(errno));
	region = part(&whole, 0, 4 * PAGE, want);
	peer_writes(&peer, &region, 100, 3 * PAGE);
	deregister(&whole);
	peer_close(&peer);
}

/* Memory that may only be read is registered for reading, and read. */
static void read_only_memory(const void *what)
{
	uint8_t *bytes = reserve(2 * PAGE), want[2 * PAGE];
	struct region whole = { .bytes = bytes,
				.size = 2 * PAGE,
				.iova = (uintptr_t)bytes },
		      region;
	struct peer peer;

	(void)what;
	for (size_t i = 0; i < 2 * PAGE; i++)
		bytes[i] = draw();
	if (mprotect(bytes, 2 * PAGE, PROT_READ))
		wrong("mprotect: %s", strerror(errno));
	peer_open(&peer, 2 * PAGE);
	whole.mr = ibv_reg_mr(peer.fabric.pd, bytes, 2 * PAGE,
			      IBV_ACCESS_REMOTE_READ | IBV_ACCESS_ON_DEMAND);
	if (!whole.mr)
		wrong("not registered: %s", strerror(errno));
	region = part(&whole, 0, 2 * PAGE, want);
	peer_reads(&peer, &region, 17, PAGE + 100);
	peer_fails(&peer, IBV_WR_RDMA_WRITE, region.iova, region.mr->rkey, 8,
		   IBV_WC_REM_ACCESS_ERR);
	region_check(&region);
	deregister(&whole);
	peer_close(&peer);
}

/* With one errno or another, where no manual page decides. */
static void must_refuse(struct peer *peer, void *bytes, size_t length,
			int access, int expected, int or)
{
	struct ibv_mr *mr;

	snprintf(doing, sizeof(doing), "%zu bytes at %p, access %#x", length,
		 bytes, access);
	errno = 0;
	mr = ibv_reg_mr(peer->fabric.pd, bytes, length, access);
	if (mr)
		wrong("registered");
	if (errno != expected && errno != or)
		wrong("refused with '%s' instead of '%s'", strerror(errno),
		      strerror(expected));
}

/* IBTA 11.2.8.2 and ibv_reg_mr(3): who writes remotely must be able to locally. */
static void remote_rights_need_local(const void *what)
{
	uint8_t *bytes = reserve(PAGE);
	struct peer peer;

	(void)what;
	peer_open(&peer, PAGE);
	must_refuse(&peer, bytes, PAGE,
		    IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_ON_DEMAND, EINVAL,
		    EINVAL);
	must_refuse(&peer, bytes, PAGE,
		    IBV_ACCESS_REMOTE_ATOMIC | IBV_ACCESS_ON_DEMAND, EINVAL,
		    EINVAL);
	peer_close(&peer);
}

static void range_that_wraps(const void *what)
{
	struct peer peer;

	(void)what;
	peer_open(&peer, PAGE);
	must_refuse(&peer, (void *)-PAGE, 2 * PAGE, ON_DEMAND, EINVAL,
		    EOVERFLOW);
	must_refuse(&peer, (void *)PAGE, SIZE_MAX - PAGE / 2, ON_DEMAND, EINVAL,
		    EOVERFLOW);
	peer_close(&peer);
}

/* Nobody who may pass over the limit of locked memory. */
static void give_up_locking(void)
{
	struct __user_cap_header_struct header = {
		.version = _LINUX_CAPABILITY_VERSION_3
	};
	struct __user_cap_data_struct data[2];

	if (syscall(SYS_capget, &header, data))
		wrong("capget: %s", strerror(errno));
	data[CAP_TO_INDEX(CAP_IPC_LOCK)].effective &=
		~CAP_TO_MASK(CAP_IPC_LOCK);
	data[CAP_TO_INDEX(CAP_IPC_LOCK)].permitted &=
		~CAP_TO_MASK(CAP_IPC_LOCK);
	if (syscall(SYS_capset, &header, data))
		wrong("capset: %s", strerror(errno));
}

/* No more than is locked already, queues of the provider among it, and a page. */
static void lock_no_more(void)
{
	struct rlimit limit;
	uint64_t kib = 0;

	if (!proc_named("/proc/self/status", "VmPin:", &kib))
		skip(KERNEL, "it does not say how much is pinned");
	limit.rlim_cur = limit.rlim_max = kib * 1024 + PAGE;
	if (setrlimit(RLIMIT_MEMLOCK, &limit))
		wrong("setrlimit: %s", strerror(errno));
}

static void needs_no_locked_memory(const void *what)
{
	struct peer peer;
	struct region region;

	(void)what;
	/* First: uverbs serves only the credentials that opened it. */
	give_up_locking();
	peer_open(&peer, 4 * PAGE);
	lock_no_more();
	must_refuse(&peer, reserve(16 * PAGE), 16 * PAGE, ALL_ACCESS, ENOMEM,
		    ENOMEM);
	*doing = 0;
	region_make(&region, &peer.fabric, 16 * PAGE, ON_DEMAND);
	peer_writes(&peer, &region, PAGE + 5, 3 * PAGE);
	region_destroy(&region);
	peer_close(&peer);
}

static const struct test tests[] = {
#define TEST(what) { "reg." #what, what }
	TEST(any_length),
	TEST(any_offset),
	TEST(any_iova),
	TEST(terabyte),
	TEST(before_there_is_memory),
	TEST(read_only_memory),
	TEST(remote_rights_need_local),
	TEST(range_that_wraps),
	TEST(needs_no_locked_memory),
};

TESTS(tests)
