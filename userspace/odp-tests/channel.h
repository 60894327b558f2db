/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Copyright (c) 2026 The Twostep authors */
/*
 * A TCP connection between the two hosts of a test, beside the RDMA that is tested. Numbers are
 * sent with the highest byte first.
 *
 * Who asks sends a greeting, MAGIC, VERSION, the seed and the test's name; who serves answers
 * with VERSION, or closes. Then both run their side of the test, and tell each other in steps.
 * A side whose test fails closes: the other's next step fails, and names that.
 */
#ifndef CHANNEL_H
#define CHANNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CHANNEL_MAGIC "odptests"
#define CHANNEL_VERSION 1
#define LONGEST_NAME 64

/**
 * struct channel - one
 * @socket: of TCP
 * @patience: seconds that the other may be silent; 0: as long as the test's deadline
 */
struct channel {
	int socket;
	unsigned int patience;
};

/* Whether the host that the options name, if they do, has an address; a sentence on stderr if not. */
bool channel_host_known(void);

/* To whoever serves at the host that the options name; for the test that runs. Skips or ends it. */
void channel_open(struct channel *channel);
void channel_close(struct channel *channel);

void channel_put(struct channel *channel, const void *bytes, size_t length);
void channel_get(struct channel *channel, void *bytes, size_t length);
void channel_put_number(struct channel *channel, uint64_t number);
uint64_t channel_get_number(struct channel *channel);

/* Both sides have come to this step. */
void channel_meet(struct channel *channel, uint64_t step);

#endif /* CHANNEL_H */
