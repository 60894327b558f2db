/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Copyright (c) 2026 The Twostep authors */
/*
 * What the user asks for: on the command line, or in the environment, where --ib-dev is
 * ODP_TESTS_IB_DEV. The command line wins.
 */
#ifndef OPTIONS_H
#define OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { FAILED = 1, BAD_OPTION = 2, SKIPPED = 4 };

enum command { RUN, LIST, INFO, SERVE };

#define MOST_DEVICES 16

/**
 * struct options - all of it
 * @command: what to do
 * @devices: names, or "all"; none: the first with an active port
 * @nr_devices: how many names
 * @port: of the device; 0: the first that is active
 * @gid_index: in the port's table; -1: a fitting one
 * @mtu: bytes, at most the port's; 0: the port's
 * @host: that serves tests of two, or NULL
 * @tcp_port: there, and where this one serves
 * @count: how often, for tests that repeat something; 0: as they like
 * @seconds: how long, for tests that last; 0: as they like
 * @filter: names of tests
 * @require: names of tests that must not skip, or NULL
 * @seed: of random numbers
 * @repeat: so many rounds
 * @shuffle: in another order each round
 * @fail_fast: the first failure is the end
 * @timeout_scale: deadlines are so much longer
 * @junit: file for the results as JUnit, or NULL
 * @json: the same as JSON
 * @log: file for the steps of tests that have some, or NULL
 */
struct options {
	enum command command;
	const char *devices[MOST_DEVICES];
	size_t nr_devices;
	unsigned int port;
	int gid_index;
	unsigned int mtu;
	const char *host;
	unsigned int tcp_port;
	size_t count;
	unsigned int seconds;
	const char *filter;
	const char *require;
	uint64_t seed;
	size_t repeat;
	bool shuffle;
	bool fail_fast;
	double timeout_scale;
	const char *junit, *json, *log;
};

extern struct options options;

/* Read them. Returns 0, or a status after a sentence on stderr. */
int options_read(int argc, char **argv);

/* Print what the program can. */
void options_help(void);

#endif /* OPTIONS_H */
