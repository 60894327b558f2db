/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Copyright (c) 2026 The Twostep authors */
/*
 * Where tests run: a port of a device and its address. Chosen once, from what the user asks
 * for, before any test begins; a device that was not chosen is not opened by a test.
 */
#ifndef PLACE_H
#define PLACE_H

#include <infiniband/verbs.h>
#include <stdbool.h>
#include <stddef.h>

/**
 * struct place - one
 * @device: its name
 * @port: of the device, active
 * @gid_index: in the port's table
 * @gid: there
 * @lid: of the port, 0 of an Ethernet's
 * @mtu: of paths
 * @software: the device is a part of the kernel, as soft-RoCE is: what it lacks, the kernel does
 */
struct place {
	char device[64];
	unsigned int port;
	int gid_index;
	union ibv_gid gid;
	uint16_t lid;
	enum ibv_mtu mtu;
	bool software;
};

/* The one that tests use now. */
extern struct place place;

/**
 * places_choose() - find what the options ask for
 * @places: filled, a place a device
 * @most: there is room for so many
 *
 * Returns how many, or 0 after a sentence on stderr: a device that does not exist or has no
 * active port, an address that is not in the table.
 */
size_t places_choose(struct place *places, size_t most);

/* Say which it is, as comments of KTAP. */
void place_print(const struct place *place);

#endif /* PLACE_H */
