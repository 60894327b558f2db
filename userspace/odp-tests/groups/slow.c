// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
// Copyright (c) 2026 The Twostep authors
/*
 * while a page comes from a disk that takes a minute, what waits for it is not freed.
 *
 * The environment variable SLOW_FILE names a file or disk that delays reads once a few were made.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "fabric.h"
#include "region.h"
#include "suite.h"

#define PAGES 256UL
/* The last page: no other read brings it along. */
#define SLOW_PAGE (PAGES - 1)
/* After so long rxe would take a reference for lost. */
#define PATIENCE_SECONDS 50

static uint8_t *map_slow(void)
{
	const char *name = getenv("SLOW_FILE");
	uint8_t *bytes;
	int file;

	if (!name)
		skip(MACHINE, "SLOW_FILE names no file that is slow");
	file = open(name, O_RDWR | O_CLOEXEC);
	if (file < 0)
		wrong("%s: %s", name, strerror(errno));
	bytes = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED,
		     file, 0);
	if (bytes == MAP_FAILED || madvise(bytes, PAGES * PAGE, MADV_RANDOM))
		wrong("%s is not mapped: %s", name, strerror(errno));
	return bytes;
}

/* A child reads until a page takes some seconds; it goes on waiting for that one. */
static pid_t until_slow(const volatile uint8_t *bytes)
{
	struct pollfd came = { .events = POLLIN };
	int pipes[2];
	pid_t child;
	char page;

	if (pipe(pipes))
		wrong("no pipe");
	child = fork();
	if (!child) {
		for (size_t i = 0; i < SLOW_PAGE; i++) {
			page = bytes[i * PAGE];
			if (write(pipes[1], &page, 1) != 1)
				_exit(1);
		}
		_exit(0);
	}
	close(pipes[1]);
	came.fd = pipes[0];
	while (poll(&came, 1, 4000))
		if (read(pipes[0], &page, 1) != 1)
			wrong("the file is not slow");
	close(pipes[0]);
	return child;
}

/*
 * A child looks for a worker of rxe that waits for a page, and ends when it finds one. The
 * parent cannot: until the page is there, who waits for it keeps the address space from being
 * copied or changed.
 */
static pid_t watch(void)
{
	pid_t child = fork();

	while (!child)
		if (!system("grep -q ib_umem_odp_fault /proc/[0-9]*/stack "
			    "2>/dev/null"))
			_exit(0);
	return child;
}

static void end_of_a_queue_pair(const void *what)
{
	struct timespec begin, end;
	struct fabric fabric;
	struct ibv_send_wr wr = { .num_sge = 1, .opcode = IBV_WR_RDMA_WRITE },
			   *bad;
	struct region near;
	struct ibv_sge sge;
	struct ibv_mr *mr;
	struct pair pair;
	uint8_t *bytes;
	pid_t reader, watcher;
	int status, ret;

	(void)what;
	fabric_open_odp(&fabric, IBV_QPT_RC);
	pair_make(&pair, &fabric, IBV_QPT_RC, IBV_MTU_1024, false);
	region_make(&near, &fabric, PAGE, ALL_ACCESS);
	bytes = map_slow();
	mr = ibv_reg_mr(fabric.pd, bytes, PAGES * PAGE,
			ALL_ACCESS | IBV_ACCESS_ON_DEMAND);
	if (!mr)
		wrong("not registered: %s", strerror(errno));
	reader = until_slow(bytes);
	watcher = watch();
	sge = region_sge(&near, 0, 100);
	wr.sg_list = &sge;
	wr.wr.rdma.remote_addr = (uintptr_t)bytes + SLOW_PAGE * PAGE;
	wr.wr.rdma.rkey = mr->rkey;
	if (ibv_post_send(pair.near.qp, &wr, &bad))
		wrong("not posted");
	if (waitpid(watcher, &status, 0) != watcher || status)
		wrong("no page is waited for");
	clock_gettime(CLOCK_MONOTONIC, &begin);
	ret = ibv_destroy_qp(pair.far.qp);
	clock_gettime(CLOCK_MONOTONIC, &end);
	kill(reader, SIGKILL);
	if (ret)
		wrong("not destroyed: %s", strerror(ret));
	printf("# the end took %ld s\n", (long)(end.tv_sec - begin.tv_sec));
	if (end.tv_sec - begin.tv_sec <= PATIENCE_SECONDS)
		wrong("it ended before its page came, or the file is not slow");
	/* The rest goes with the process. */
}

static const struct test tests[] = {
	{ "life.slow_page_and_end_of_queue_pair", end_of_a_queue_pair, NULL },
};

TESTS(tests)
