// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
// Copyright (c) 2026 The Twostep authors

#include <arpa/inet.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "options.h"
#include "place.h"

struct place place;

/* How a choice went on. */
enum found { NOT_HERE, HERE, BAD };

__attribute__((format(printf, 1, 2))) static enum found bad(const char *format,
							    ...)
{
	va_list arguments;

	fputs("odp-tests: ", stderr);
	va_start(arguments, format);
	vfprintf(stderr, format, arguments);
	va_end(arguments);
	fputs("\n", stderr);
	return BAD;
}

static bool is_ipv4(const union ibv_gid *gid)
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };

	return !memcmp(gid->raw, mapped, sizeof(mapped));
}

/* RoCE v2 of an IPv4 address if there is one, else of any; InfiniBand has its own first. */
static int fitting_gid(struct ibv_context *context, unsigned int port, int nr)
{
	struct ibv_gid_entry entry;
	int any = -1;

	for (int i = 0; i < nr; i++) {
		if (ibv_query_gid_ex(context, port, i, &entry, 0))
			continue;
		if (entry.gid_type == IBV_GID_TYPE_IB)
			return i;
		if (entry.gid_type != IBV_GID_TYPE_ROCE_V2)
			continue;
		if (is_ipv4(&entry.gid))
			return i;
		if (any < 0)
			any = i;
	}
	return any;
}

static enum ibv_mtu as_mtu(unsigned int bytes)
{
	enum ibv_mtu mtu = IBV_MTU_256;

	while (128U << mtu < bytes)
		mtu++;
	return mtu;
}

static enum found choose_gid(struct ibv_context *context, struct place *at,
			     const struct ibv_port_attr *attr)
{
	at->gid_index = options.gid_index;
	if (at->gid_index < 0)
		at->gid_index =
			fitting_gid(context, at->port, attr->gid_tbl_len);
	if (at->gid_index < 0)
		return bad(
			"port %u of %s has no address that fits; --gid-index names another",
			at->port, at->device);
	if (at->gid_index >= attr->gid_tbl_len ||
	    ibv_query_gid(context, at->port, at->gid_index, &at->gid) ||
	    !(at->gid.global.subnet_prefix | at->gid.global.interface_id))
		return bad("port %u of %s has no GID %d", at->port, at->device,
			   at->gid_index);
	return HERE;
}

static enum found choose_port(struct ibv_context *context, struct place *at)
{
	unsigned int first = options.port ? options.port : 1;
	struct ibv_device_attr device;
	struct ibv_port_attr attr;
	unsigned int last;

	if (ibv_query_device(context, &device))
		return bad("%s does not answer: %s", at->device,
			   strerror(errno));
	last = options.port ? options.port : device.phys_port_cnt;
	if (last > device.phys_port_cnt)
		return bad("%s has no port %u; it has %u", at->device, last,
			   device.phys_port_cnt);
	for (at->port = first; at->port <= last; at->port++) {
		if (ibv_query_port(context, at->port, &attr) ||
		    attr.state != IBV_PORT_ACTIVE)
			continue;
		at->lid = attr.lid;
		at->mtu = attr.active_mtu;
		if (options.mtu && as_mtu(options.mtu) < at->mtu)
			at->mtu = as_mtu(options.mtu);
		return choose_gid(context, at, &attr);
	}
	return NOT_HERE;
}

static enum found look_at(struct ibv_device *device, struct place *at)
{
	const char *name = ibv_get_device_name(device);
	struct ibv_context *context = ibv_open_device(device);
	enum found found;
	char bus[256];

	if (!context)
		return bad("%s cannot be opened: %s", name, strerror(errno));
	*at = (struct place){};
	snprintf(at->device, sizeof(at->device), "%s", name);
	snprintf(bus, sizeof(bus), "/sys/class/infiniband/%s/device", name);
	at->software = access(bus, F_OK);
	found = choose_port(context, at);
	ibv_close_device(context);
	return found;
}

static size_t choose_named(struct ibv_device **list, int nr,
			   struct place *places, size_t most)
{
	size_t chosen = 0;

	for (size_t i = 0; i < options.nr_devices && chosen < most; i++) {
		const char *name = options.devices[i];
		enum found found = NOT_HERE;
		int j = 0;

		while (j < nr && strcmp(ibv_get_device_name(list[j]), name))
			j++;
		if (j == nr) {
			bad("there is no device '%s'", name);
			return 0;
		}
		found = look_at(list[j], &places[chosen]);
		if (found == NOT_HERE)
			bad("%s has no active port", name);
		if (found != HERE)
			return 0;
		chosen++;
	}
	return chosen;
}

static size_t choose_active(struct ibv_device **list, int nr, bool all,
			    struct place *places, size_t most)
{
	size_t chosen = 0;

	for (int i = 0; i < nr && chosen < most && (all || !chosen); i++) {
		enum found found = look_at(list[i], &places[chosen]);

		if (found == BAD)
			return 0;
		chosen += found == HERE;
	}
	if (!chosen)
		bad(nr ? "no device has an active port" :
			 "there is no RDMA device");
	return chosen;
}

size_t places_choose(struct place *places, size_t most)
{
	bool all = options.nr_devices == 1 &&
		   !strcmp(options.devices[0], "all");
	struct ibv_device **list;
	size_t chosen;
	int nr = 0;

	list = ibv_get_device_list(&nr);
	if (!list && errno == ENOSYS) {
		bad("there is no RDMA device: the kernel has no uverbs, or has not loaded it");
		return 0;
	}
	if (!list) {
		bad("the RDMA devices cannot be listed: %s", strerror(errno));
		return 0;
	}
	if (options.nr_devices && !all)
		chosen = choose_named(list, nr, places, most);
	else
		chosen = choose_active(list, nr, all, places, most);
	ibv_free_device_list(list);
	return chosen;
}

void place_print(const struct place *place)
{
	char address[INET6_ADDRSTRLEN];

	inet_ntop(AF_INET6, place->gid.raw, address, sizeof(address));
	printf("# device %s, port %u, GID %d (%s), MTU %u\n", place->device,
	       place->port, place->gid_index, address, 128U << place->mtu);
}
