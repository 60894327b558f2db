/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * Copyright (c) 2026 The Twostep authors
 *
 * What a program says to /dev/odp_test. An open file owns memory regions; closing it
 * releases them.
 */
#ifndef _ODP_TEST_ABI_H
#define _ODP_TEST_ABI_H

#include <linux/ioctl.h>
#include <linux/types.h>

/* odp_test_region.flags */
#define ODP_TEST_WRITE 1 /* the device may write */
#define ODP_TEST_HUGETLB 2 /* entries of 2 MiB */
#define ODP_TEST_VIRT 4 /* the device with virtual DMA */
#define ODP_TEST_IMPLICIT 8 /* a parent; address and length are not used */
#define ODP_TEST_CHILD 16 /* of the parent whose handle is given */

/* odp_test_fault.mode */
#define ODP_TEST_FAULT 0
#define ODP_TEST_PREFETCH 1
#define ODP_TEST_SNAPSHOT 2

/* odp_test_region.way */
#define ODP_TEST_WAY_IOVA 0
#define ODP_TEST_WAY_DIRECT 1
#define ODP_TEST_WAY_VIRT 2

/* odp_test_access.flags */
#define ODP_TEST_STORE 1 /* the device writes @value; else it reads it */
#define ODP_TEST_DMA \
	2 /* a store by the PCI function itself, of its own value */
#define ODP_TEST_RAW \
	4 /* the same whatever the entry says, where an IOMMU guards */

/* What a PCI function stores. */
#define ODP_TEST_DMA_VALUE 0x12345678

/**
 * struct odp_test_region - ODP_TEST_REGISTER
 * @address: user address of the first byte
 * @length: bytes
 * @flags: ODP_TEST_WRITE and friends
 * @parent: handle of an implicit region
 * @handle: out: names the region
 * @page_shift: out: log2 of the bytes of an entry
 * @way: out: how the device addresses memory
 * @reserved: 0
 * @dma: out: DMA address of the first entry, if it has one for good
 */
struct odp_test_region {
	__u64 address;
	__u64 length;
	__u32 flags;
	__u32 parent;
	__u32 handle;
	__u32 page_shift;
	__u32 way;
	__u32 reserved;
	__u64 dma;
};

/**
 * struct odp_test_fault - ODP_TEST_FAULT_IN: as if the device had reported a fault
 * @address: user address of the first byte
 * @length: bytes
 * @handle: the region
 * @mode: ODP_TEST_FAULT and friends
 * @write: whether the device wants to write
 * @granted: out: 1 read, 2 write: what all usable pages have
 * @present: out: usable pages
 */
struct odp_test_fault {
	__u64 address;
	__u64 length;
	__u32 handle;
	__u32 mode;
	__u32 write;
	__u32 granted;
	__u64 present;
};

/**
 * struct odp_test_page - what is known of a page
 * @word: the mirror's word
 * @entry: the device's entry, 0 for a hole: DMA address of the page, 1 read, 2 write
 * @phys: where the IOMMU leads from the page's IOVA, 0 for nowhere
 */
struct odp_test_page {
	__u64 word;
	__u64 entry;
	__u64 phys;
};

/**
 * struct odp_test_look - ODP_TEST_LOOK: what is known of some pages, all at the same time
 * @address: user address of the first
 * @nr: how many
 * @pages: where to put it: struct odp_test_page
 * @handle: the region
 * @reserved: 0
 */
struct odp_test_look {
	__u64 address;
	__u64 nr;
	__u64 pages;
	__u32 handle;
	__u32 reserved;
};

/**
 * struct odp_test_access - ODP_TEST_ACCESS: the device reads or writes 8 bytes
 * @address: user address, a multiple of 8
 * @value: what to write, or out: what was read
 * @handle: the region
 * @flags: ODP_TEST_STORE and friends
 *
 * -EFAULT if the device has no entry for it, -EACCES if no right.
 */
struct odp_test_access {
	__u64 address;
	__u64 value;
	__u32 handle;
	__u32 flags;
};

#define ODP_TEST_MAX_STATS 16

/**
 * struct odp_test_stats - ODP_TEST_STATS
 * @handle: the region
 * @nr: out: how many values
 * @values: out: by enum ib_umem_odp_stat
 */
struct odp_test_stats {
	__u32 handle;
	__u32 nr;
	__u64 values[ODP_TEST_MAX_STATS];
};

#define ODP_TEST_REGISTER _IOWR('o', 0, struct odp_test_region)
#define ODP_TEST_RELEASE _IO('o', 1)
#define ODP_TEST_FAULT_IN _IOWR('o', 2, struct odp_test_fault)
#define ODP_TEST_LOOK _IOW('o', 3, struct odp_test_look)
#define ODP_TEST_ACCESS _IOWR('o', 4, struct odp_test_access)
#define ODP_TEST_STATS _IOWR('o', 5, struct odp_test_stats)

#endif /* _ODP_TEST_ABI_H */
