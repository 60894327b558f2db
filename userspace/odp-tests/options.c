// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
// Copyright (c) 2026 The Twostep authors

#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "options.h"

struct options options = {
	.gid_index = -1,
	.filter = "*",
	.repeat = 1,
	.timeout_scale = 1,
	.tcp_port = 18580,
};

enum {
	FILTER = 256,
	REQUIRE,
	SEED,
	REPEAT,
	SHUFFLE,
	SCALE,
	JUNIT,
	JSON,
	LOG,
	FAIL_FAST
};

/* Every one that takes a value may come from the environment. */
static const struct option known[] = {
	{ "ib-dev", required_argument, NULL, 'd' },
	{ "ib-port", required_argument, NULL, 'i' },
	{ "gid-index", required_argument, NULL, 'x' },
	{ "mtu", required_argument, NULL, 'm' },
	{ "port", required_argument, NULL, 'p' },
	{ "iters", required_argument, NULL, 'n' },
	{ "duration", required_argument, NULL, 'D' },
	{ "filter", required_argument, NULL, FILTER },
	{ "require", required_argument, NULL, REQUIRE },
	{ "seed", required_argument, NULL, SEED },
	{ "repeat", required_argument, NULL, REPEAT },
	{ "timeout-scale", required_argument, NULL, SCALE },
	{ "junit", required_argument, NULL, JUNIT },
	{ "json", required_argument, NULL, JSON },
	{ "log", required_argument, NULL, LOG },
	{ "shuffle", no_argument, NULL, SHUFFLE },
	{ "fail-fast", no_argument, NULL, FAIL_FAST },
	{ "list", no_argument, NULL, 'l' },
	{ "help", no_argument, NULL, 'h' },
	{}
};

void options_help(void)
{
	puts("usage: odp-tests [run|list|info|serve] [options] [HOST]\n"
	     "\n"
	     "On-demand paging of RDMA devices: is every byte where it belongs?\n"
	     "  run   (or nothing) run the tests; KTAP on stdout; status 0, 1 if one failed,\n"
	     "        2 for a bad option, 4 if all skipped\n"
	     "  list  name them, and what they need\n"
	     "  info  what kernel, device and library allow, and which of them says no\n"
	     "  serve be the other host of tests of two, until a signal; the first runs\n"
	     "        them with HOST, or they skip\n"
	     "\n"
	     "  -d, --ib-dev=NAME       device, may be repeated, or all (default: the first\n"
	     "                          with an active port)\n"
	     "  -i, --ib-port=NUMBER    its port (default: the first that is active)\n"
	     "  -x, --gid-index=NUMBER  in the port's table (default: RoCE v2 of an IPv4\n"
	     "                          address; InfiniBand: 0)\n"
	     "  -m, --mtu=BYTES         of paths, at most the port's\n"
	     "  -p, --port=NUMBER       of TCP, where HOST serves (default: 18580)\n"
	     "  -n, --iters=NUMBER      messages of tests that repeat something\n"
	     "  -D, --duration=SECONDS  of tests that last: stress\n"
	     "      --filter=PATTERNS   as in googletest: rc.*:-*swap*\n"
	     "      --require=NAMES     of these a skip is a failure: rc.write,prefetch or '*'\n"
	     "      --seed=NUMBER       repeats a run\n"
	     "      --repeat=NUMBER     so many rounds\n"
	     "      --shuffle           in another order each round\n"
	     "      --fail-fast         the first failure is the end\n"
	     "      --timeout-scale=F   deadlines are F times as long\n"
	     "      --junit=FILE, --json=FILE   results, in these forms too\n"
	     "      --log=FILE          each step of stress\n"
	     "\n"
	     "Each option with a value may come from the environment: ODP_TESTS_IB_DEV=rxe0.\n"
	     "Only the devices that were chosen are touched.");
}

static int refused(const char *name, const char *value, const char *must)
{
	fprintf(stderr, "odp-tests: %s is '%s'; it must be %s\n", name, value,
		must);
	return BAD_OPTION;
}

/* A number of a range. */
static int number(const char *name, const char *value, unsigned long long least,
		  unsigned long long most, unsigned long long *found)
{
	char must[80], *end;

	errno = 0;
	*found = strtoull(value, &end, 0);
	if (isdigit((unsigned char)*value) && !*end && !errno &&
	    *found >= least && *found <= most)
		return 0;
	snprintf(must, sizeof(must), "a number from %llu to %llu", least, most);
	return refused(name, value, must);
}

static int set_mtu(const char *name, const char *value)
{
	static const char *const sizes[] = { "256", "512", "1024", "2048",
					     "4096" };

	for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++)
		if (!strcmp(value, sizes[i])) {
			options.mtu = 256U << i;
			return 0;
		}
	return refused(name, value, "256, 512, 1024, 2048 or 4096");
}

static int set_scale(const char *name, const char *value)
{
	char *end;

	options.timeout_scale = strtod(value, &end);
	if (*value && !*end && options.timeout_scale >= 0.1 &&
	    options.timeout_scale <= 1000)
		return 0;
	return refused(name, value, "a number from 0.1 to 1000");
}

static int set(int option, const char *name, const char *value)
{
	unsigned long long found;
	int status = 0;

	switch (option) {
	case 'd':
		if (options.nr_devices == MOST_DEVICES) {
			fprintf(stderr, "odp-tests: more than %d devices\n",
				MOST_DEVICES);
			return BAD_OPTION;
		}
		options.devices[options.nr_devices++] = value;
		break;
	case 'i':
		status = number(name, value, 1, 255, &found);
		options.port = found;
		break;
	case 'x':
		status = number(name, value, 0, 65535, &found);
		options.gid_index = found;
		break;
	case 'm':
		return set_mtu(name, value);
	case 'p':
		status = number(name, value, 1, 65535, &found);
		options.tcp_port = found;
		break;
	case 'n':
		status = number(name, value, 1, 1000000000, &found);
		options.count = found;
		break;
	case 'D':
		status = number(name, value, 1, 10000000, &found);
		options.seconds = found;
		break;
	case 'l':
		options.command = LIST;
		break;
	case FILTER:
		options.filter = value;
		break;
	case REQUIRE:
		options.require = value;
		break;
	case SEED:
		status = number(name, value, 0, UINT64_MAX, &found);
		options.seed = found;
		break;
	case REPEAT:
		status = number(name, value, 1, 1000000, &found);
		options.repeat = found;
		break;
	case SHUFFLE:
		options.shuffle = true;
		break;
	case FAIL_FAST:
		options.fail_fast = true;
		break;
	case SCALE:
		return set_scale(name, value);
	case JUNIT:
		options.junit = value;
		break;
	case JSON:
		options.json = value;
		break;
	case LOG:
		options.log = value;
		break;
	case 'h':
		options_help();
		exit(0);
	default:
		/* getopt has said what is wrong. */
		return BAD_OPTION;
	}
	return status;
}

static int read_environment(void)
{
	char name[64] = "ODP_TESTS_";
	const char *value;
	int status;

	for (const struct option *option = known; option->name; option++) {
		char *at = name + strlen("ODP_TESTS_");

		if (option->has_arg != required_argument)
			continue;
		for (const char *from = option->name; *from; from++)
			*at++ = *from == '-' ? '_' : toupper(*from);
		*at = 0;
		value = getenv(name);
		if (!value || !*value)
			continue;
		status = set(option->val, name, value);
		if (status)
			return status;
	}
	return 0;
}

static const char *name_of(int option)
{
	static char name[32];

	for (const struct option *each = known; each->name; each++)
		if (each->val == option) {
			snprintf(name, sizeof(name), "--%s", each->name);
			return name;
		}
	return "";
}

/* Commands, and the host that serves. */
static int read_words(int argc, char **argv)
{
	static const char *const commands[] = { "run", "list", "info",
						"serve" };

	for (int i = RUN; i <= SERVE && optind < argc; i++)
		if (!strcmp(argv[optind], commands[i])) {
			options.command = i;
			optind++;
			break;
		}
	if (optind < argc && options.command == RUN)
		options.host = argv[optind++];
	if (optind == argc)
		return 0;
	fprintf(stderr, "odp-tests: '%s' is one word too many\n", argv[optind]);
	return BAD_OPTION;
}

int options_read(int argc, char **argv)
{
	size_t from_environment;
	bool first = true;
	int option, status;

	options.seed = time(NULL);
	status = read_environment();
	from_environment = options.nr_devices;
	while (!status && (option = getopt_long(argc, argv, "d:i:x:m:p:n:D:lh",
						known, NULL)) != -1) {
		/* Devices of the command line come instead, not besides. */
		if (option == 'd' && first && from_environment) {
			options.nr_devices = 0;
			first = false;
		}
		status = set(option, name_of(option), optarg);
	}
	return status ? status : read_words(argc, argv);
}
