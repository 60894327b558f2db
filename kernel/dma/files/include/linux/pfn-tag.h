/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Copyright (c) 2026 The Twostep authors
 *
 * A tagged PFN: one word that says which page, and what a device may do with it.
 *
 *	 63    62     61      60     59    58 57   56..52    51 .. 0
 *	READ  WRITE  MAPPED  DIRTY  HUGE   KIND     USER       PFN
 *
 * A word without READ and WRITE is a hole, whatever its other bits say. READ and
 * WRITE are the device's rights and sit where HMM keeps "valid" and "writable".
 * MAPPED says that the page is linked in the I/O page table; only the functions
 * that link and unlink set and clear it. HUGE marks a word that stands for an
 * aligned block instead of a page. USER bits belong to the owner of the array.
 *
 * Two words of neighbouring pages with equal tags differ by one: that is how runs
 * are found, and why the PFN has the low bits.
 */
#ifndef _LINUX_PFN_TAG_H
#define _LINUX_PFN_TAG_H

#include <linux/bits.h>
#include <linux/build_bug.h>
#include <linux/pfn.h>
#include <linux/types.h>

#define PFN_TAG_READ BIT_ULL(63)
#define PFN_TAG_WRITE BIT_ULL(62)
#define PFN_TAG_MAPPED BIT_ULL(61)
#define PFN_TAG_DIRTY BIT_ULL(60)
#define PFN_TAG_HUGE BIT_ULL(59)
#define PFN_TAG_KIND_SHIFT 57
#define PFN_TAG_KIND GENMASK_ULL(58, 57)
#define PFN_TAG_USER GENMASK_ULL(56, 52)
#define PFN_TAG_PFN GENMASK_ULL(51, 0)

#define PFN_TAG_ACCESS (PFN_TAG_READ | PFN_TAG_WRITE)

/**
 * enum pfn_tag_kind - how a device reaches the memory behind a PFN
 * @PFN_KIND_REGULAR: system memory
 * @PFN_KIND_P2P_BRIDGE: a peer's memory, through the host bridge: translated like memory
 * @PFN_KIND_P2P_BUS: a peer's memory below a common switch: addressed by its bus address,
 *	never by an IOVA, and so never linked
 * @PFN_KIND_DEVICE_PRIVATE: memory that no device but its owner reaches: never linked
 */
enum pfn_tag_kind {
	PFN_KIND_REGULAR,
	PFN_KIND_P2P_BRIDGE,
	PFN_KIND_P2P_BUS,
	PFN_KIND_DEVICE_PRIVATE,
};

/**
 * pfn_tag() - make a word
 * @pfn: page frame number, below 2^52
 * @tags: PFN_TAG_* bits
 * @kind: how a device reaches the page
 *
 * Return: the word.
 */
static inline u64 pfn_tag(u64 pfn, u64 tags, enum pfn_tag_kind kind)
{
	return pfn | tags | (u64)kind << PFN_TAG_KIND_SHIFT;
}

/**
 * pfn_tag_phys() - physical address of the page of a word
 * @word: a tagged PFN
 *
 * Return: address in bytes.
 */
static inline phys_addr_t pfn_tag_phys(u64 word)
{
	return PFN_PHYS(word & PFN_TAG_PFN);
}

/**
 * pfn_tag_kind() - how a device reaches the page of a word
 * @word: a tagged PFN
 *
 * Return: the kind.
 */
static inline enum pfn_tag_kind pfn_tag_kind(u64 word)
{
	return (word & PFN_TAG_KIND) >> PFN_TAG_KIND_SHIFT;
}

/**
 * pfn_tag_linkable() - whether a word's page is to be linked
 * @word: a tagged PFN
 *
 * Return: true if a device may access it, it is not linked yet, and the device
 * reaches it by an IOVA.
 */
static inline bool pfn_tag_linkable(u64 word)
{
	/* The kinds without an IOVA have the upper bit of the field. */
	const u64 none = PFN_TAG_MAPPED | 2ULL << PFN_TAG_KIND_SHIFT;

	static_assert(!(PFN_KIND_REGULAR & 2) && !(PFN_KIND_P2P_BRIDGE & 2));
	static_assert(PFN_KIND_P2P_BUS & PFN_KIND_DEVICE_PRIVATE & 2);

	return word & PFN_TAG_ACCESS && !(word & none);
}

#endif /* _LINUX_PFN_TAG_H */
