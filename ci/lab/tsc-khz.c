// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
// Copyright (c) 2026 The Twostep authors
/*
 * tsc-khz: how fast the host's time stamp counter runs, which is what an emulated CPU's is.
 */
#include <stdint.h>
#include <stdio.h>
#include <time.h>
#include <x86intrin.h>

/**
 * struct moment - one moment on two clocks
 * @tsc: time stamp counter
 * @ns: CLOCK_MONOTONIC_RAW
 */
struct moment {
	uint64_t tsc;
	int64_t ns;
};

/* Of many readings the one that nothing came between. */
static struct moment now(void)
{
	struct moment best = {};
	uint64_t least = UINT64_MAX;

	for (int i = 0; i < 1000; i++) {
		struct timespec time;
		uint64_t before = __rdtsc(), took;

		clock_gettime(CLOCK_MONOTONIC_RAW, &time);
		took = __rdtsc() - before;
		if (took < least) {
			least = took;
			best.tsc = before + took / 2;
			best.ns = time.tv_sec * 1000000000LL + time.tv_nsec;
		}
	}
	return best;
}

int main(void)
{
	const struct timespec moment = { .tv_nsec = 50000000 };
	struct moment first = now(), second;

	nanosleep(&moment, NULL);
	second = now();
	printf("%.0f\n",
	       (second.tsc - first.tsc) * 1e6 / (second.ns - first.ns));
	return 0;
}
