// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
// Copyright (c) 2026 The Twostep authors
/*
 * Memory that is a file's: what the device writes is in the file, what is written to the file
 * the device reads, and what the file loses the device has no more.
 *
 * Files without a name: of memory, of tmpfs in /dev/shm, and of what is below TMPDIR or
 * /var/tmp, for a file system of a disk.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/memfd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "peer.h"
#include "suite.h"

#define PAGES 64
#define SIZE (PAGES * PAGE)

/* Of linux/fcntl.h. */
#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif

static int open_memfd(void)
{
	return memfd_create("file", MFD_CLOEXEC | MFD_ALLOW_SEALING);
}

static int open_tmpfs(void)
{
	return open("/dev/shm", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
}

static int open_disk(void)
{
	const char *folder = getenv("TMPDIR");

	return open(folder ? folder : "/var/tmp",
		    O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
}

typedef int (*open_file)(void);

/**
 * struct stage - a mapped file that a peer reaches
 * @peer: he
 * @file: the file
 * @region: its mapping
 */
struct stage {
	struct peer peer;
	int file;
	struct region region;
};

static void *map(const struct stage *stage, int protection, int flags)
{
	void *bytes = mmap(NULL, SIZE, protection, flags, stage->file, 0);

	if (bytes == MAP_FAILED)
		wrong("the file is not mapped: %s", strerror(errno));
	return bytes;
}

static bool is_of_memory(int file)
{
	struct statfs system;

	if (fstatfs(file, &system))
		wrong("fstatfs: %s", strerror(errno));
	return system.f_type == TMPFS_MAGIC || system.f_type == RAMFS_MAGIC;
}

/* WHAT is how the file is opened. */
static void open_stage(struct stage *stage, const void *what, int flags)
{
	open_file opened = *(const open_file *)what;

	peer_open(&stage->peer, SIZE);
	stage->file = opened();
	if (stage->file < 0)
		skip(MACHINE, "no file without a name: %s", strerror(errno));
	if (opened == open_disk && is_of_memory(stage->file))
		skip(MACHINE, "TMPDIR is on no disk");
	if (ftruncate(stage->file, SIZE))
		wrong("no file of %lu bytes: %s", SIZE, strerror(errno));
	region_over(&stage->region, &stage->peer.fabric,
		    map(stage, PROT_READ | PROT_WRITE, flags), SIZE,
		    ALL_ACCESS | IBV_ACCESS_ON_DEMAND);
}

static void close_stage(struct stage *stage)
{
	region_destroy(&stage->region);
	peer_close(&stage->peer);
	close(stage->file);
}

/* The file, read past the mapping, holds SIZE bytes of WANT. */
static void check_file(const struct stage *stage, const uint8_t *want)
{
	uint8_t *found = malloc(SIZE);

	if (pread(stage->file, found, SIZE, 0) != (ssize_t)SIZE)
		wrong("the file is not read: %s", strerror(errno));
	for (size_t i = 0; i < SIZE; i++)
		if (found[i] != want[i])
			wrong("byte %zu of the file is %#x instead of %#x", i,
			      found[i], want[i]);
	free(found);
}

static void some_writes(struct stage *stage)
{
	for (int i = 0; i < 16; i++)
		peer_writes(&stage->peer, &stage->region, below(SIZE / 2),
			    1 + below(SIZE / 2));
}

static void device_writes_the_file(const void *what)
{
	struct stage stage;

	open_stage(&stage, what, MAP_SHARED);
	some_writes(&stage);
	check_file(&stage, stage.region.want);
	close_stage(&stage);
}

static void device_reads_the_file(const void *what)
{
	struct stage stage;
	uint8_t some[999];

	open_stage(&stage, what, MAP_SHARED);
	for (int i = 0; i < 32; i++) {
		size_t at = below(SIZE - sizeof(some));

		for (size_t j = 0; j < sizeof(some); j++)
			some[j] = draw();
		if (pwrite(stage.file, some, sizeof(some), at) != sizeof(some))
			wrong("the file is not written: %s", strerror(errno));
		memcpy(stage.region.want + at, some, sizeof(some));
		peer_reads(&stage.peer, &stage.region, at, sizeof(some));
	}
	close_stage(&stage);
}

/* What the device wrote reaches the disk, though no process wrote it: the page is dirty. */
static void device_dirties_the_page(const void *what)
{
	struct stage stage;
	void *again;

	open_stage(&stage, what, MAP_SHARED);
	/* Clean, and not mapped for writing by the process any more. */
	if (msync(stage.region.bytes, SIZE, MS_SYNC))
		wrong("msync: %s", strerror(errno));
	some_writes(&stage);
	if (ibv_dereg_mr(stage.region.mr))
		wrong("not deregistered");
	munmap(stage.region.bytes, SIZE);
	if (fsync(stage.file) ||
	    posix_fadvise(stage.file, 0, SIZE, POSIX_FADV_DONTNEED))
		wrong("the cache is not dropped: %s", strerror(errno));
	check_file(&stage, stage.region.want);
	again = map(&stage, PROT_READ, MAP_SHARED);
	if (memcmp(again, stage.region.want, SIZE))
		wrong("mapped again it has other bytes");
	munmap(again, SIZE);
	peer_close(&stage.peer);
}

/* A private mapping is the process's own as soon as somebody writes. */
static void private_stays_private(const void *what)
{
	uint8_t *before = calloc(1, SIZE);
	struct stage stage;
	void *other;

	open_stage(&stage, what, MAP_PRIVATE);
	/* region_over() has written all: begin anew, with the file's pages. */
	if (madvise(stage.region.bytes, SIZE, MADV_DONTNEED))
		wrong("madvise: %s", strerror(errno));
	for (size_t i = 0; i < SIZE; i++)
		before[i] = draw();
	if (pwrite(stage.file, before, SIZE, 0) != (ssize_t)SIZE)
		wrong("the file is not written: %s", strerror(errno));
	memcpy(stage.region.want, before, SIZE);
	peer_reads(&stage.peer, &stage.region, 0, SIZE);
	some_writes(&stage);
	check_file(&stage, before);
	other = map(&stage, PROT_READ, MAP_SHARED);
	if (memcmp(other, before, SIZE))
		wrong("another mapping has what the device wrote");
	munmap(other, SIZE);
	free(before);
	close_stage(&stage);
}

/* Behind the end there is nothing; when the file grows again, zeros. */
static void truncated(const void *what)
{
	struct stage stage;
	size_t kept = PAGES / 2 * PAGE;

	open_stage(&stage, what, MAP_SHARED);
	some_writes(&stage);
	if (ftruncate(stage.file, kept))
		wrong("ftruncate: %s", strerror(errno));
	peer_fails(&stage.peer, IBV_WR_RDMA_WRITE, stage.region.iova + kept,
		   stage.region.mr->rkey, 8, IBV_WC_REM_ACCESS_ERR);
	peer_fails(&stage.peer, IBV_WR_RDMA_READ,
		   stage.region.iova + kept + 3 * PAGE, stage.region.mr->rkey,
		   8, IBV_WC_REM_ACCESS_ERR);
	if (ftruncate(stage.file, SIZE))
		wrong("ftruncate: %s", strerror(errno));
	memset(stage.region.want + kept, 0, SIZE - kept);
	peer_reads(&stage.peer, &stage.region, 0, SIZE);
	some_writes(&stage);
	check_file(&stage, stage.region.want);
	close_stage(&stage);
}

static void punched(const void *what)
{
	struct stage stage;

	open_stage(&stage, what, MAP_SHARED);
	some_writes(&stage);
	for (int i = 0; i < 8; i++) {
		size_t at = below(PAGES - 8) * PAGE, length = 8 * PAGE;

		if (fallocate(stage.file,
			      FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at,
			      length)) {
			if (errno == EOPNOTSUPP)
				skip(MACHINE, "the file system has no holes");
			wrong("fallocate: %s", strerror(errno));
		}
		memset(stage.region.want + at, 0, length);
		peer_reads(&stage.peer, &stage.region, at, length);
		peer_writes(&stage.peer, &stage.region, at + 5, length - 10);
	}
	check_file(&stage, stage.region.want);
	close_stage(&stage);
}

/* Who has it mapped may go on writing; nobody else may begin to. */
static void sealed_for_others(const void *what)
{
	struct stage stage;

	open_stage(&stage, what, MAP_SHARED);
	if (fcntl(stage.file, F_ADD_SEALS, F_SEAL_FUTURE_WRITE))
		skip(KERNEL, "it does not seal against future writes: %s",
		     strerror(errno));
	some_writes(&stage);
	check_file(&stage, stage.region.want);
	close_stage(&stage);
}

/* Nobody may write: the device reads, and no more. */
static void sealed(const void *what)
{
	struct stage stage;
	struct region reader;

	open_stage(&stage, what, MAP_SHARED);
	some_writes(&stage);
	reader = stage.region;
	if (ibv_dereg_mr(stage.region.mr))
		wrong("not deregistered");
	munmap(stage.region.bytes, SIZE);
	if (fcntl(stage.file, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK))
		wrong("not sealed: %s", strerror(errno));
	reader.bytes = map(&stage, PROT_READ, MAP_PRIVATE);
	reader.iova = (uintptr_t)reader.bytes;
	reader.mr = ibv_reg_mr(stage.peer.fabric.pd, reader.bytes, SIZE,
			       IBV_ACCESS_REMOTE_READ | IBV_ACCESS_ON_DEMAND);
	if (!reader.mr)
		wrong("not registered: %s", strerror(errno));
	peer_reads(&stage.peer, &reader, 0, SIZE);
	peer_fails(&stage.peer, IBV_WR_RDMA_WRITE, reader.iova, reader.mr->rkey,
		   8, IBV_WC_REM_ACCESS_ERR);
	check_file(&stage, reader.want);
	region_destroy(&reader);
	peer_close(&stage.peer);
}

static const open_file memfd = open_memfd, tmpfs = open_tmpfs, disk = open_disk;

#define EACH(what)                                        \
	{ "file." #what ".memfd", what, &memfd },         \
		{ "file." #what ".tmpfs", what, &tmpfs }, \
	{                                                 \
		"file." #what ".disk", what, &disk        \
	}

static const struct test tests[] = {
	EACH(device_writes_the_file),
	EACH(device_reads_the_file),
	EACH(private_stays_private),
	EACH(truncated),
	EACH(punched),
	{ "file.device_dirties_the_page.disk", device_dirties_the_page, &disk },
	{ "file.sealed_for_others", sealed_for_others, &memfd },
	{ "file.sealed", sealed, &memfd },
};

TESTS(tests)
