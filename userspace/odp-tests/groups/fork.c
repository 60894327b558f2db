// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
// Copyright (c) 2026 The Twostep authors
/*
 * A process that forks shares its pages with the child until one of them writes. The device
 * writes for the parent, whose page it stays: neither sees what the other has written since.
 *
 * With pinned memory that takes ibv_fork_init(3) and MADV_DONTFORK; on demand it takes nothing.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "peer.h"
#include "suite.h"

#define PAGES 64
#define SIZE (PAGES * PAGE)

/**
 * struct family - a parent with memory that the device has, and a child
 * @peer: reaches the memory
 * @region: the parent's
 * @child: the other process
 * @to_child: a byte tells it to go on
 * @to_parent: the same, back
 */
struct family {
	struct peer peer;
	struct region region;
	pid_t child;
	int to_child[2], to_parent[2];
};

/* What the child finds wrong, as its status. */
enum { GOOD, OTHER_BYTES = 10, NO_WORD };

/* Of the child; the parent ends the test with words. */
static void tell(const int *way)
{
	if (write(way[1], "", 1) != 1)
		_exit(NO_WORD);
}

static void hear(const int *way)
{
	char word;

	if (read(way[0], &word, 1) != 1)
		_exit(NO_WORD);
}

/* The child has ended, and says by its status what it found. */
static void reap(struct family *family)
{
	int status = 0;

	if (waitpid(family->child, &status, 0) != family->child)
		wrong("no child to wait for");
	if (WIFEXITED(status) && WEXITSTATUS(status) == OTHER_BYTES)
		wrong("the child has bytes that the device wrote since");
	if (status)
		wrong("the child ended with %#x", status);
}

static void tell_child(struct family *family)
{
	if (write(family->to_child[1], "", 1) != 1) {
		reap(family);
		wrong("the child has ended");
	}
}

static void hear_child(struct family *family)
{
	char word;

	if (read(family->to_parent[0], &word, 1) != 1) {
		reap(family);
		wrong("the child has ended");
	}
}

/* Memory that the device has, its pages written or only read. */
static void have_memory(struct family *family, bool written)
{
	peer_open(&family->peer, SIZE);
	region_make(&family->region, &family->peer.fabric, SIZE,
		    ALL_ACCESS | IBV_ACCESS_ON_DEMAND);
	if (written)
		peer_writes(&family->peer, &family->region, 0, SIZE);
	else
		peer_reads(&family->peer, &family->region, 0, SIZE);
}

/* The child has what there was at the fork, and may write all over it. */
static void be_child(struct family *family, bool writes)
{
	const struct region *region = &family->region;
	uint8_t *before = malloc(SIZE);

	memcpy(before, region->want, SIZE);
	tell(family->to_parent);
	hear(family->to_child);
	if (memcmp(region->bytes, before, SIZE))
		_exit(OTHER_BYTES);
	if (writes)
		memset(region->bytes, 0x5a, SIZE);
	tell(family->to_parent);
	hear(family->to_child);
	_exit(GOOD);
}

/* Returns 0 in the child. Each end is open only where it is used: an end is seen. */
static pid_t bear(struct family *family)
{
	signal(SIGPIPE, SIG_IGN);
	if (pipe2(family->to_child, O_CLOEXEC) ||
	    pipe2(family->to_parent, O_CLOEXEC))
		wrong("no pipe: %s", strerror(errno));
	fflush(stdout);
	family->child = fork();
	if (family->child < 0)
		wrong("no child: %s", strerror(errno));
	close(family->to_child[family->child ? 0 : 1]);
	close(family->to_parent[family->child ? 1 : 0]);
	return family->child;
}

static void begin(struct family *family, bool writes)
{
	if (!bear(family))
		be_child(family, writes);
	hear_child(family);
}

static void end(struct family *family)
{
	tell_child(family);
	reap(family);
	close(family->to_child[1]);
	close(family->to_parent[0]);
}

static void leave(struct family *family)
{
	region_destroy(&family->region);
	peer_close(&family->peer);
}

/* The device writes behind the fork; the child has what was before. */
static void child_keeps_what_was(const void *what)
{
	struct family family;

	have_memory(&family, what != NULL);
	begin(&family, false);
	for (int i = 0; i < 20; i++)
		peer_writes(&family.peer, &family.region, below(SIZE / 2),
			    1 + below(SIZE / 2));
	tell_child(&family);
	hear_child(&family);
	end(&family);
	region_check(&family.region);
	leave(&family);
}

/* The child writes over all of it; the device reads what is the parent's. */
static void parent_keeps_what_was(const void *what)
{
	struct family family;

	have_memory(&family, what != NULL);
	begin(&family, true);
	tell_child(&family);
	hear_child(&family);
	region_check(&family.region);
	peer_reads(&family.peer, &family.region, 0, SIZE);
	peer_writes(&family.peer, &family.region, 5, SIZE - 10);
	end(&family);
	peer_reads(&family.peer, &family.region, 0, SIZE);
	leave(&family);
}

/* The parent writes itself: its pages are others then, and the device's too. */
static void parent_writes(const void *what)
{
	struct family family;

	have_memory(&family, what != NULL);
	begin(&family, false);
	region_fill(&family.region, 3, SIZE - 6);
	peer_reads(&family.peer, &family.region, 0, SIZE);
	peer_writes(&family.peer, &family.region, PAGE - 7, 9 * PAGE);
	tell_child(&family);
	hear_child(&family);
	end(&family);
	region_check(&family.region);
	leave(&family);
}

/* Children that come and go while data moves: nobody is told, nothing changes. */
static void one_after_the_other(const void *what)
{
	struct family family;

	have_memory(&family, what != NULL);
	for (int i = 0; i < 10; i++) {
		snprintf(doing, sizeof(doing), "child %d", i);
		begin(&family, i % 2);
		peer_writes(&family.peer, &family.region, below(SIZE / 2),
			    1 + below(SIZE / 2));
		tell_child(&family);
		hear_child(&family);
		end(&family);
		peer_reads(&family.peer, &family.region, 0, SIZE);
	}
	leave(&family);
}

/* Memory that is kept from children. */
static void kept_from_children(const void *what)
{
	struct family family;

	have_memory(&family, what != NULL);
	if (madvise(family.region.bytes, SIZE, MADV_DONTFORK))
		wrong("madvise: %s", strerror(errno));
	if (!bear(&family)) {
		if (!msync(family.region.bytes, SIZE, MS_ASYNC) ||
		    errno != ENOMEM)
			_exit(OTHER_BYTES);
		hear(family.to_child);
		_exit(GOOD);
	}
	peer_writes(&family.peer, &family.region, 1, SIZE - 2);
	end(&family);
	peer_reads(&family.peer, &family.region, 0, SIZE);
	leave(&family);
}

#define TEST(what)                             \
	{ "fork." #what ".read", what, NULL }, \
		{ "fork." #what ".written", what, "" }

static const struct test tests[] = {
	TEST(child_keeps_what_was), TEST(parent_keeps_what_was),
	TEST(parent_writes),	    TEST(one_after_the_other),
	TEST(kept_from_children),
};

TESTS(tests)
