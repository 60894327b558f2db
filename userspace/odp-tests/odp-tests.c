// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
// Copyright (c) 2026 The Twostep authors
/*
 * odp-tests: tests of on-demand paging, through the verbs of any RDMA device. The tests are in
 * groups/, a behaviour a file, each of which makes its own known.
 */
#include "channel.h"
#include "info.h"
#include "options.h"
#include "serve.h"
#include "suite.h"

int main(int argc, char **argv)
{
	int status = options_read(argc, argv);

	if (status)
		return status;
	switch (options.command) {
	case LIST:
		return list_tests();
	case INFO:
		return print_info();
	case SERVE:
		return serve_tests();
	default:
		return channel_host_known() ? run_tests() : BAD_OPTION;
	}
}
