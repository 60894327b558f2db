// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
// Copyright (c) 2026 The Twostep authors

#define _GNU_SOURCE
#include <errno.h>
#include <libgen.h>
#include <limits.h>
#include <rdma/ib_user_ioctl_cmds.h>
#include <rdma/rdma_user_ioctl_cmds.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "fabric.h"
#include "info.h"
#include "newer.h"
#include "options.h"
#include "place.h"
#include "region.h"
#include "suite.h"

enum answer { YES, NO_KERNEL, NO_DEVICE, NO_LIBRARY, NO_SUCH };

static const char *const words[] = { "yes", "kernel", "device", "library",
				     "-" };

enum transport { RC, UC, UD, XRC, TRANSPORTS };

/**
 * struct facts - what was found out
 * @fabric: the device, open
 * @driver: its name, or what the device calls itself
 * @config: CONFIG_INFINIBAND_ON_DEMAND_PAGING: 1, 0, or -1 if the configuration is not to be seen
 * @odp: whether there is on-demand paging at all
 * @caps: a transport's bits
 * @page: registered on demand, or NULL
 */
struct facts {
	struct fabric fabric;
	char driver[64];
	int config;
	enum answer odp;
	uint32_t caps[TRANSPORTS];
	struct ibv_mr *page;
};

static const struct operation {
	const char *name;
	uint32_t cap;
	/* The transports that have it. */
	unsigned int transports;
	/* What a queue pair must be made for; 0: ibv_post_send() has it. */
	uint64_t extended;
} operations[] = {
	{ "send", IBV_ODP_SUPPORT_SEND, 0xf, 0 },
	{ "receive", IBV_ODP_SUPPORT_RECV, 0x7, 0 },
	{ "receive from SRQ", IBV_ODP_SUPPORT_SRQ_RECV, 0xf, 0 },
	{ "write", IBV_ODP_SUPPORT_WRITE, 0xb, 0 },
	{ "read", IBV_ODP_SUPPORT_READ, 0x9, 0 },
	{ "atomic", IBV_ODP_SUPPORT_ATOMIC, 0x9, 0 },
	{ "atomic write", ODP_SUPPORT_ATOMIC_WRITE, 0x9,
	  IBV_QP_EX_WITH_ATOMIC_WRITE },
	{ "flush", ODP_SUPPORT_FLUSH, 0x9, IBV_QP_EX_WITH_FLUSH },
};

/* A line of the kernel's configuration, from where distributions keep it. */
static int read_config(const char *name)
{
	struct utsname kernel;
	char command[512], line[256];
	int found = -1;
	FILE *said;

	uname(&kernel);
	snprintf(command, sizeof(command),
		 "zcat /proc/config.gz 2>/dev/null || cat /boot/config-%s "
		 "/lib/modules/%s/config 2>/dev/null",
		 kernel.release, kernel.release);
	said = popen(command, "re");
	while (said && fgets(line, sizeof(line), said)) {
		if (found < 0)
			found = 0;
		if (!strncmp(line, name, strlen(name)) &&
		    line[strlen(name)] == '=')
			found = 1;
	}
	if (said)
		pclose(said);
	return found;
}

static void read_driver(struct facts *facts)
{
	char path[256], target[PATH_MAX];
	ssize_t length;
	FILE *file;

	snprintf(path, sizeof(path), "/sys/class/infiniband/%s/device/driver",
		 place.device);
	length = readlink(path, target, sizeof(target) - 1);
	if (length > 0) {
		target[length] = 0;
		snprintf(facts->driver, sizeof(facts->driver), "%s",
			 basename(target));
		return;
	}
	/* A device of software has no parent; it says what it is. */
	snprintf(path, sizeof(path), "/sys/class/infiniband/%s/node_desc",
		 place.device);
	file = fopen(path, "re");
	if (!file || !fgets(facts->driver, sizeof(facts->driver), file))
		strcpy(facts->driver, "unknown");
	facts->driver[strcspn(facts->driver, "\n")] = 0;
	if (file)
		fclose(file);
}

/* Who lacks what the device does not announce. */
static enum answer not_announced(void)
{
	return place.software ? NO_KERNEL : NO_DEVICE;
}

static void find_out(struct facts *facts)
{
	const struct ibv_odp_caps *caps;

	fabric_open(&facts->fabric);
	caps = &facts->fabric.attr.odp_caps;
	read_driver(facts);
	facts->config = read_config("CONFIG_INFINIBAND_ON_DEMAND_PAGING");
	facts->caps[RC] = caps->per_transport_caps.rc_odp_caps;
	facts->caps[UC] = caps->per_transport_caps.uc_odp_caps;
	facts->caps[UD] = caps->per_transport_caps.ud_odp_caps;
	facts->caps[XRC] = facts->fabric.attr.xrc_odp_caps;
	facts->odp = YES;
	if (!(caps->general_caps & IBV_ODP_SUPPORT))
		facts->odp = facts->config == 0 ? NO_KERNEL : not_announced();
}

/* Whether the provider makes a queue pair that can post it. */
static bool can_be_posted(const struct facts *facts, uint64_t extended)
{
	struct ibv_qp_init_attr_ex init = {
		.qp_type = IBV_QPT_RC,
		.cap = { .max_send_wr = 1,
			 .max_recv_wr = 1,
			 .max_send_sge = 1,
			 .max_recv_sge = 1 },
		.comp_mask = IBV_QP_INIT_ATTR_PD |
			     IBV_QP_INIT_ATTR_SEND_OPS_FLAGS,
		.pd = facts->fabric.pd,
		.send_ops_flags = extended,
	};
	struct ibv_cq *cq;
	struct ibv_qp *qp;

	if (!extended)
		return true;
	cq = ibv_create_cq(facts->fabric.context, 1, NULL, NULL, 0);
	if (!cq)
		return false;
	init.send_cq = cq;
	init.recv_cq = cq;
	qp = ibv_create_qp_ex(facts->fabric.context, &init);
	if (qp)
		ibv_destroy_qp(qp);
	ibv_destroy_cq(cq);
	return qp;
}

static enum answer answer(const struct facts *facts,
			  const struct operation *operation,
			  enum transport transport)
{
	if (!(operation->transports >> transport & 1))
		return NO_SUCH;
	if (facts->odp != YES)
		return facts->odp;
	if (!(facts->caps[transport] & operation->cap))
		return not_announced();
	return can_be_posted(facts, operation->extended) ? YES : NO_LIBRARY;
}

/* What ibv_advise_mr() would ask of the kernel, asked without it. Returns 0 or an errno. */
static int advise_by_ioctl(const struct facts *facts, unsigned int advice)
{
	struct ib_uverbs_sge sge = {
		.addr = (uintptr_t)facts->page->addr,
		.length = facts->page->length,
		.lkey = facts->page->lkey,
	};
	struct {
		struct ib_uverbs_ioctl_hdr header;
		struct ib_uverbs_attr attrs[4];
	} command = {
		.header = { .length = sizeof(command),
			    .object_id = UVERBS_OBJECT_MR,
			    .method_id = UVERBS_METHOD_ADVISE_MR,
			    .num_attrs = COUNT(command.attrs) },
		.attrs = {
			{ .attr_id = UVERBS_ATTR_ADVISE_MR_PD_HANDLE,
			  .flags = UVERBS_ATTR_F_MANDATORY,
			  .data = facts->fabric.pd->handle },
			/* A constant is two numbers of 32 bits wide, in place. */
			{ .attr_id = UVERBS_ATTR_ADVISE_MR_ADVICE,
			  .len = sizeof(uint64_t),
			  .flags = UVERBS_ATTR_F_MANDATORY,
			  .data = advice },
			{ .attr_id = UVERBS_ATTR_ADVISE_MR_FLAGS,
			  .len = sizeof(uint32_t),
			  .flags = UVERBS_ATTR_F_MANDATORY,
			  .data = IBV_ADVISE_MR_FLAG_FLUSH },
			{ .attr_id = UVERBS_ATTR_ADVISE_MR_SGE_LIST,
			  .len = sizeof(sge),
			  .flags = UVERBS_ATTR_F_MANDATORY,
			  .data = (uintptr_t)&sge },
		},
	};

	return ioctl(facts->fabric.context->cmd_fd, RDMA_VERBS_IOCTL,
		     &command) ?
		       errno :
		       0;
}

static enum answer answer_advice(const struct facts *facts, unsigned int advice)
{
	struct ibv_sge sge;

	if (!facts->page)
		return facts->odp;
	sge = (struct ibv_sge){ (uintptr_t)facts->page->addr,
				facts->page->length, facts->page->lkey };
	if (!ibv_advise_mr(facts->fabric.pd, advice, IBV_ADVISE_MR_FLAG_FLUSH,
			   &sge, 1))
		return YES;
	/* -EPROTONOSUPPORT: no such method; the other: no such driver's. */
	switch (advise_by_ioctl(facts, advice)) {
	case 0:
		return NO_LIBRARY;
	case EPROTONOSUPPORT:
		return NO_KERNEL;
	default:
		return not_announced();
	}
}

static enum answer answer_implicit(const struct facts *facts)
{
	struct ibv_mr *mr;

	if (facts->odp != YES)
		return facts->odp;
	if (!(facts->fabric.attr.odp_caps.general_caps &
	      IBV_ODP_SUPPORT_IMPLICIT))
		return not_announced();
	mr = ibv_reg_mr(facts->fabric.pd, NULL, SIZE_MAX,
			IBV_ACCESS_ON_DEMAND | IBV_ACCESS_LOCAL_WRITE);
	if (!mr)
		return NO_LIBRARY;
	ibv_dereg_mr(mr);
	return YES;
}

static enum answer answer_window(const struct facts *facts,
				 enum ibv_mw_type type)
{
	struct ibv_mw *mw;

	if (facts->odp != YES)
		return facts->odp;
	mw = ibv_alloc_mw(facts->fabric.pd, type);
	if (!mw)
		return not_announced();
	ibv_dealloc_mw(mw);
	return YES;
}

static enum answer answer_rereg(const struct facts *facts)
{
	if (!facts->page)
		return facts->odp;
	switch (ibv_rereg_mr(facts->page, IBV_REREG_MR_CHANGE_ACCESS,
			     facts->fabric.pd, NULL, 0,
			     IBV_ACCESS_ON_DEMAND | IBV_ACCESS_LOCAL_WRITE)) {
	case 0:
		return YES;
	default:
		return errno == EOPNOTSUPP || errno == ENOSYS ? NO_LIBRARY :
								not_announced();
	}
}

static enum answer answer_counter(const struct facts *facts)
{
	char path[256];

	if (facts->odp != YES)
		return facts->odp;
	snprintf(path, sizeof(path),
		 "/sys/class/infiniband/%s/ports/%u/hw_counters/odp_faults",
		 place.device, place.port);
	return access(path, R_OK) ? not_announced() : YES;
}

static void advise_user(const struct facts *facts, unsigned int seen)
{
	bool none = facts->odp != YES;

	printf("\n");
	if (none && facts->config == 0)
		printf("  kernel: CONFIG_INFINIBAND_ON_DEMAND_PAGING is not set; "
		       "build a kernel that has it\n");
	else if (none && !strcmp(facts->driver, "rxe"))
		printf("  kernel: its rxe has no on-demand paging; Linux 6.15 "
		       "and later have it, and Twostep's 6.12\n");
	else if (none)
		printf("  device: %s announces no on-demand paging: its driver "
		       "has none, or firmware has it switched off\n",
		       facts->driver);
	else if (seen & (1U << NO_KERNEL | 1U << NO_DEVICE))
		printf("  %s: %s does not do this on demand: use memory that is "
		       "registered without IBV_ACCESS_ON_DEMAND there\n",
		       words[not_announced()], facts->driver);
	if (seen & 1U << NO_LIBRARY)
		printf("  library: the provider of %s cannot ask for it, the "
		       "device could: install a newer rdma-core\n",
		       facts->driver);
	if (!none && !(seen & ~(1U << YES | 1U << NO_SUCH)))
		printf("  nothing is missing\n");
}

static unsigned int print_operations(const struct facts *facts)
{
	unsigned int seen = 0;

	printf("\n  %-22s%-9s%-9s%-9s%-9s\n", "operation", "RC", "UC", "UD",
	       "XRC");
	for (size_t i = 0; i < COUNT(operations); i++) {
		printf("  %-22s", operations[i].name);
		for (int transport = RC; transport < TRANSPORTS; transport++) {
			enum answer is =
				answer(facts, &operations[i], transport);

			/* Few devices have XRC, and nobody misses it. */
			if (transport != XRC)
				seen |= 1U << is;
			printf("%-9s", words[is]);
		}
		printf("\n");
	}
	return seen;
}

static unsigned int print_rest(const struct facts *facts)
{
	const struct {
		const char *name;
		enum answer is;
	} rest[] = {
		{ "implicit MR", answer_implicit(facts) },
		{ "window, type 1", answer_window(facts, IBV_MW_TYPE_1) },
		{ "window, type 2", answer_window(facts, IBV_MW_TYPE_2) },
		{ "ibv_rereg_mr", answer_rereg(facts) },
		{ "prefetch",
		  answer_advice(facts, IBV_ADVISE_MR_ADVICE_PREFETCH) },
		{ "prefetch for writing",
		  answer_advice(facts, IBV_ADVISE_MR_ADVICE_PREFETCH_WRITE) },
		{ "prefetch, no fault",
		  answer_advice(facts,
				IBV_ADVISE_MR_ADVICE_PREFETCH_NO_FAULT) },
		{ "counter of faults", answer_counter(facts) },
	};
	unsigned int seen = 0;

	printf("\n");
	for (size_t i = 0; i < COUNT(rest); i++) {
		printf("  %-22s%s\n", rest[i].name, words[rest[i].is]);
		seen |= 1U << rest[i].is;
	}
	return seen;
}

static void print_device(void)
{
	static const char *const configs[] = { "not to be seen", "no", "yes" };
	struct facts facts = {};
	struct utsname kernel;
	unsigned int seen;
	void *page;

	find_out(&facts);
	uname(&kernel);
	printf("%s: driver %s, firmware '%s', kernel %s (on-demand paging "
	       "configured: %s)\n",
	       place.device, facts.driver, facts.fabric.attr.orig_attr.fw_ver,
	       kernel.release, configs[facts.config + 1]);
	printf("\n  on-demand paging      %s\n", words[facts.odp]);
	page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (facts.odp == YES && page != MAP_FAILED)
		facts.page = ibv_reg_mr(facts.fabric.pd, page, PAGE,
					IBV_ACCESS_ON_DEMAND |
						IBV_ACCESS_LOCAL_WRITE);
	if (facts.odp == YES && !facts.page)
		printf("  announced, and a page is not registered: %s\n",
		       strerror(errno));
	seen = print_operations(&facts);
	seen |= print_rest(&facts);
	advise_user(&facts, seen);
	if (facts.page)
		ibv_dereg_mr(facts.page);
	fabric_close(&facts.fabric);
}

int print_info(void)
{
	struct place places[MOST_DEVICES];
	size_t nr = places_choose(places, COUNT(places));

	for (size_t i = 0; i < nr; i++) {
		place = places[i];
		printf("%s", i ? "\n" : "");
		print_device();
	}
	return nr ? 0 : BAD_OPTION;
}
