// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
// Copyright (c) 2026 The Twostep authors
/*
 * a process ends, or is killed, with requests in flight; nothing of it stays.
 *
 * A child has a device context, a queue pair and on-demand paging memory of its own, none of
 * which is present when the traffic begins. It is one side of a queue of messages, and ends
 * after the first of them. Its memory goes before its queue pair does (the kernel closes files
 * after it has torn down the address space), so that what the other side sees is one of two:
 *
 *  - the child was the responder: the requests that it answered succeed. The first that it did
 *    not has a remote access error, if the memory was gone and the queue pair was not, or else
 *    no answer: the retry counter is exceeded. Those behind are flushed. A new queue pair that
 *    asks for what has gone has no answer.
 *  - the child was the requester: nobody tells the responder. What arrived is in its memory,
 *    whole bytes of the child's; its receive waits until the queue pair is ended, and is
 *    flushed.
 *
 * Then no object of the child is left in the device, and the next child works.
 */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "backing.h"
#include "fabric.h"
#include "region.h"
#include "options.h"
#include "suite.h"

#define SIZE (4UL << 20)
#define LENGTH (128UL << 10)
/* Messages in flight; they fill the region, each has its own part. */
#define DEPTH (SIZE / LENGTH)
#define DEADLINE_SECONDS 20
/* Children, one after the other. */
#define CHILDREN 2
/* What the two sides' memory has everywhere at first. */
#define PARENT 0x5a
#define CHILD 0xa5

/**
 * struct death - how a child ends
 * @requester: it has the requests, else the memory that they are for
 * @killed: by SIGKILL, else of itself
 */
struct death {
	bool requester;
	bool killed;
};

/**
 * struct side - one of the two processes
 * @fabric: its device context
 * @pair: its end is the near one; the far one idles
 * @region: its memory, on demand
 * @socket: to the other
 */
struct side {
	struct fabric fabric;
	struct pair pair;
	struct region region;
	int socket;
};

/**
 * struct hello - what a side tells the other
 * @contact: of its queue pair
 * @rkey: its memory's
 * @iova: where that begins
 */
struct hello {
	struct contact contact;
	uint32_t rkey;
	uint64_t iova;
};

/* 7 tries of a quarter of a second: 6 is the most that is not endless for soft-RoCE. */
static void connect_to(struct side *side, const struct contact *contact)
{
	end_connect(&side->pair.near, &side->fabric, IBV_QPT_RC, side->pair.mtu,
		    contact, RETRIES - 1);
}

static void side_open(struct side *side, uint8_t byte)
{
	fabric_open_odp(&side->fabric, IBV_QPT_RC);
	pair_make(&side->pair, &side->fabric, IBV_QPT_RC, IBV_MTU_4096, false);
	region_make(&side->region, &side->fabric, SIZE,
		    ALL_ACCESS | IBV_ACCESS_ON_DEMAND);
	memset(side->region.bytes, byte, SIZE);
	region_prepare(&side->region, COLD);
}

static void side_close(struct side *side)
{
	pair_destroy(&side->pair);
	region_destroy(&side->region);
	ibv_dealloc_pd(side->fabric.pd);
	ibv_close_device(side->fabric.context);
}

static void say(struct side *side, const void *what, size_t length)
{
	if (send(side->socket, what, length, MSG_NOSIGNAL) != (ssize_t)length)
		wrong("the other process does not hear");
}

static void hear(struct side *side, void *what, size_t length)
{
	if (recv(side->socket, what, length, MSG_WAITALL) != (ssize_t)length)
		wrong("the other process says nothing");
}

static void go_on(struct side *side)
{
	say(side, "", 1);
}

static void wait_for(struct side *side)
{
	hear(side, &(char){ 0 }, 1);
}

static struct hello meet(struct side *side)
{
	struct hello ours = { end_contact(&side->pair.near, &side->fabric),
			      side->region.mr->rkey, side->region.iova };
	struct hello theirs;

	say(side, &ours, sizeof(ours));
	hear(side, &theirs, sizeof(theirs));
	connect_to(side, &theirs.contact);
	/* Both are ready. */
	go_on(side);
	wait_for(side);
	return theirs;
}

static void post(struct side *side, const struct hello *remote,
		 enum ibv_wr_opcode opcode, size_t nr)
{
	struct ibv_sge sge = region_sge(&side->region, nr * LENGTH, LENGTH);
	struct ibv_send_wr wr = { .wr_id = nr,
				  .sg_list = &sge,
				  .num_sge = 1,
				  .opcode = opcode },
			   *bad;
	int ret;

	wr.wr.rdma.remote_addr = remote->iova + nr * LENGTH;
	wr.wr.rdma.rkey = remote->rkey;
	ret = ibv_post_send(side->pair.near.qp, &wr, &bad);
	if (ret)
		wrong("not posted: %s", strerror(ret));
}

/* Whether all of a message's part of the memory has a byte. */
static bool is_all(const struct side *side, size_t nr, uint8_t byte)
{
	const uint8_t *bytes = side->region.bytes + nr * LENGTH;

	return *bytes == byte && !memcmp(bytes, bytes + 1, LENGTH - 1);
}

/* The child never returns. It ends in the middle of things; that is the point. */
__attribute__((noreturn)) static void child(struct side *side,
					    const struct death *death)
{
	struct hello parent;

	side_open(side, CHILD);
	parent = meet(side);
	wait_for(side);
	if (death->requester) {
		for (size_t nr = 0; nr < DEPTH; nr++)
			post(side, &parent, IBV_WR_RDMA_WRITE, nr);
		end_wait_success(&side->pair.near, "child");
		go_on(side);
	}
	if (death->killed)
		pause();
	exit(0);
}

/* Let a child be, with a socket to it. */
static pid_t bear(struct side *side, const struct death *death)
{
	struct side theirs = {};
	int sockets[2];
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, sockets))
		wrong("no sockets: %s", strerror(errno));
	fflush(stdout);
	pid = fork();
	if (pid < 0)
		wrong("no child: %s", strerror(errno));
	if (!pid) {
		alarm(DEADLINE_SECONDS);
		close(sockets[0]);
		theirs.socket = sockets[1];
		child(&theirs, death);
	}
	close(sockets[1]);
	side->socket = sockets[0];
	return pid;
}

/* The child's end, with requests in flight. */
static void bury(struct side *side, const struct death *death, pid_t pid)
{
	int status;

	if (death->killed)
		kill(pid, SIGKILL);
	else if (!death->requester)
		go_on(side);
	if (waitpid(pid, &status, 0) != pid ||
	    (death->killed ?
		     !WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL :
		     status != 0))
		wrong("the child ended with status %#x", status);
	close(side->socket);
}

/* How many objects of a kind the device has for a process. */
static unsigned int objects(const char *kind, pid_t pid)
{
	char command[64], line[512], owner[32];
	unsigned int found = 0;
	FILE *list;

	snprintf(command, sizeof(command), "rdma resource show %s", kind);
	snprintf(owner, sizeof(owner), " pid %d ", pid);
	list = popen(command, "re");
	while (list && fgets(line, sizeof(line), list))
		found += !!strstr(line, owner);
	if (!list || pclose(list))
		skip(MACHINE, "there is no rdma(8)");
	return found;
}

static const char *const kinds[] = { "qp", "mr", "cq", "pd" };

static void want_objects(pid_t pid)
{
	for (size_t i = 0; i < COUNT(kinds); i++)
		if (!objects(kinds[i], pid))
			wrong("the living child has no %s", kinds[i]);
}

static void want_no_objects(pid_t pid)
{
	time_t late = time(NULL) + DEADLINE_SECONDS;

	for (size_t i = 0; i < COUNT(kinds); i++)
		while (objects(kinds[i], pid))
			if (time(NULL) > late)
				wrong("a %s of the dead child is left",
				      kinds[i]);
}

/* What has gone does not answer. */
static void ask_the_dead(struct side *side, const struct hello *dead)
{
	struct ibv_wc wc;

	connect_to(side, &dead->contact);
	post(side, dead, IBV_WR_RDMA_READ, 0);
	wc = end_wait(&side->pair.near, "requester");
	if (wc.status != IBV_WC_RETRY_EXC_ERR)
		wrong("the dead answer '%s'", ibv_wc_status_str(wc.status));
}

static enum ibv_wr_opcode opcode_of(size_t nr)
{
	return nr % 2 ? IBV_WR_RDMA_WRITE : IBV_WR_RDMA_READ;
}

static void want_answered(const struct side *side, const struct ibv_wc *wc,
			  size_t nr)
{
	if (wc->wr_id != nr)
		wrong("completion %zu is of message %" PRIu64, nr, wc->wr_id);
	if (!is_all(side, nr,
		    opcode_of(nr) == IBV_WR_RDMA_READ ? CHILD : PARENT))
		wrong("message %zu succeeded, but has other bytes", nr);
}

/* The requests that the child did not answer any more. Returns how many. */
static size_t want_unanswered(struct side *side, size_t nr)
{
	enum ibv_wc_status status = IBV_WC_SUCCESS;
	size_t unanswered = 0;
	struct ibv_wc wc;

	for (; nr < DEPTH; nr++) {
		wc = end_wait(&side->pair.near, "requester");
		if (!unanswered && wc.status == IBV_WC_SUCCESS) {
			want_answered(side, &wc, nr);
			continue;
		}
		if (!unanswered)
			status = wc.status;
		else if (wc.status != IBV_WC_WR_FLUSH_ERR)
			wrong("'%s' behind '%s'", ibv_wc_status_str(wc.status),
			      ibv_wc_status_str(status));
		unanswered++;
	}
	if (!unanswered)
		wrong("nothing was in flight");
	if (status != IBV_WC_RETRY_EXC_ERR && status != IBV_WC_REM_ACCESS_ERR)
		wrong("the requester has '%s'", ibv_wc_status_str(status));
	printf("# %zu of %zu not answered: %s\n", unanswered, DEPTH,
	       ibv_wc_status_str(status));
	return unanswered;
}

static void responder_ends(struct side *side, const struct death *death)
{
	pid_t pid = bear(side, death);
	struct hello dead = meet(side);
	struct ibv_wc wc;

	want_objects(pid);
	for (size_t nr = 0; nr < DEPTH; nr++)
		post(side, &dead, opcode_of(nr), nr);
	wc = end_wait_success(&side->pair.near, "requester");
	want_answered(side, &wc, 0);
	bury(side, death, pid);
	want_unanswered(side, 1);
	want_no_objects(pid);
	ask_the_dead(side, &dead);
}

/* What is in the memory came from the child, or was there; some did, and not all. */
static void want_part(const struct side *side)
{
	size_t arrived = 0;

	if (!is_all(side, 0, CHILD))
		wrong("the first message succeeded, but is not there");
	for (size_t i = 0; i < SIZE; i++) {
		if (side->region.bytes[i] != CHILD &&
		    side->region.bytes[i] != PARENT)
			wrong("byte %zu is nobody's: %#x", i,
			      side->region.bytes[i]);
		arrived += side->region.bytes[i] == CHILD;
	}
	printf("# %zu of %zu bytes arrived\n", arrived, SIZE);
	if (arrived == SIZE)
		wrong("nothing was in flight");
}

static void requester_ends(struct side *side, const struct death *death)
{
	struct ibv_qp_attr error = { .qp_state = IBV_QPS_ERR };
	pid_t pid = bear(side, death);
	struct ibv_sge sge = region_sge(&side->region, 0, LENGTH);
	struct ibv_wc wc;

	meet(side);
	post_receive(&side->pair.near, &sge, 1);
	want_objects(pid);
	go_on(side);
	wait_for(side);
	bury(side, death, pid);
	want_no_objects(pid);
	if (ibv_poll_cq(side->pair.near.cq, 1, &wc))
		wrong("the responder has '%s'", ibv_wc_status_str(wc.status));
	if (ibv_modify_qp(side->pair.near.qp, &error, IBV_QP_STATE))
		wrong("not in error: %s", strerror(errno));
	wc = end_wait(&side->pair.near, "responder");
	if (wc.status != IBV_WC_WR_FLUSH_ERR)
		wrong("its receive has '%s'", ibv_wc_status_str(wc.status));
	/* No packet of the child is on its way any more. */
	want_part(side);
}

static void run_death(const void *what)
{
	const struct death *death = what;
	struct fabric watcher = {};
	uint64_t taken;

	fabric_open_odp(&watcher, IBV_QPT_RC);
	taken = pages_taken();
	for (size_t i = 0; i < (options.count ?: CHILDREN); i++) {
		struct side side = {};

		snprintf(doing, sizeof(doing), "child %zu", i);
		side_open(&side, PARENT);
		if (death->requester)
			requester_ends(&side, death);
		else
			responder_ends(&side, death);
		side_close(&side);
	}
	*doing = 0;
	want_taken(taken);
}

static const struct test tests[] = {
	{ "life.requester_exits", run_death,
	  &(const struct death){ true, false } },
	{ "life.requester_is_killed", run_death,
	  &(const struct death){ true, true } },
	{ "life.responder_exits", run_death,
	  &(const struct death){ false, false } },
	{ "life.responder_is_killed", run_death,
	  &(const struct death){ false, true } },
};

TESTS(tests)
