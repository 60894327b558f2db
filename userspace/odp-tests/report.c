// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
// Copyright (c) 2026 The Twostep authors

#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>

#include "options.h"
#include "report.h"

static FILE *junit, *json;
static const char *const outcomes[] = { "pass", "fail", "skip" };

void results_add(struct results *results, const char *name, const char *device,
		 enum outcome outcome, const char *reason, double seconds)
{
	results->all = realloc(results->all,
			       (results->nr + 1) * sizeof(*results->all));
	results->all[results->nr++] = (struct result){
		.name = strdup(name),
		.device = strdup(device),
		.outcome = outcome,
		.reason = strdup(reason),
		.seconds = seconds,
	};
}

void results_free(struct results *results)
{
	for (size_t i = 0; i < results->nr; i++) {
		free(results->all[i].name);
		free(results->all[i].device);
		free(results->all[i].reason);
	}
	free(results->all);
}

size_t results_count(const struct results *results, enum outcome outcome)
{
	size_t count = 0;

	for (size_t i = 0; i < results->nr; i++)
		count += results->all[i].outcome == outcome;
	return count;
}

static bool open_one(const char *path, FILE **file)
{
	if (!path)
		return true;
	*file = fopen(path, "we");
	if (!*file)
		fprintf(stderr, "odp-tests: %s cannot be written: %s\n", path,
			strerror(errno));
	return *file;
}

bool reports_open(void)
{
	return open_one(options.junit, &junit) && open_one(options.json, &json);
}

static bool close_one(const char *path, FILE *file)
{
	bool failed = ferror(file);

	/* A full disk may show when the last bytes are written. */
	failed |= fclose(file) != 0;
	if (failed)
		fprintf(stderr, "odp-tests: %s was not written: %s\n", path,
			strerror(errno));
	return !failed;
}

static void put_xml(FILE *file, const char *text)
{
	for (; *text; text++) {
		if (*text == '<')
			fputs("&lt;", file);
		else if (*text == '&')
			fputs("&amp;", file);
		else if (*text == '"')
			fputs("&quot;", file);
		else if ((unsigned char)*text < ' ')
			fputc(' ', file);
		else
			fputc(*text, file);
	}
}

static size_t group_length(const char *name)
{
	return strcspn(name, ".");
}

static bool same_group(const struct result *a, const struct result *b)
{
	size_t length = group_length(a->name);

	return length == group_length(b->name) &&
	       !strncmp(a->name, b->name, length) &&
	       !strcmp(a->device, b->device);
}

static void put_case(const struct result *result)
{
	static const char *const elements[] = { NULL, "failure", "skipped" };
	const char *element = elements[result->outcome];

	fputs("    <testcase classname=\"odp-tests.", junit);
	put_xml(junit, result->device);
	fputs("\" name=\"", junit);
	put_xml(junit, result->name);
	fprintf(junit, "\" time=\"%.3f\"", result->seconds);
	if (element) {
		fprintf(junit, ">\n      <%s message=\"", element);
		put_xml(junit, result->reason);
		fputs("\"/>\n    </testcase>\n", junit);
	} else {
		fputs("/>\n", junit);
	}
}

/* All results of the group of the one at @first, wherever they are. */
static void put_group(const struct results *results, size_t first)
{
	const struct result *head = &results->all[first];
	size_t counts[3] = {};

	for (size_t i = first; i < results->nr; i++)
		if (same_group(head, &results->all[i]))
			counts[results->all[i].outcome]++;
	fprintf(junit,
		"  <testsuite name=\"%.*s\" tests=\"%zu\" failures=\"%zu\" "
		"skipped=\"%zu\" errors=\"0\">\n",
		(int)group_length(head->name), head->name,
		counts[0] + counts[1] + counts[2], counts[FAILED_TEST],
		counts[SKIPPED_TEST]);
	for (size_t i = first; i < results->nr; i++)
		if (same_group(head, &results->all[i]))
			put_case(&results->all[i]);
	fputs("  </testsuite>\n", junit);
}

static bool is_first_of_group(const struct results *results, size_t at)
{
	for (size_t i = 0; i < at; i++)
		if (same_group(&results->all[i], &results->all[at]))
			return false;
	return true;
}

static void put_junit(const struct results *results)
{
	fputs("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n",
	      junit);
	for (size_t i = 0; i < results->nr; i++)
		if (is_first_of_group(results, i))
			put_group(results, i);
	fputs("</testsuites>\n", junit);
}

static void put_string(const char *name, const char *text)
{
	fprintf(json, "\"%s\": \"", name);
	for (; *text; text++) {
		if (*text == '"' || *text == '\\')
			fprintf(json, "\\%c", *text);
		else if ((unsigned char)*text < ' ')
			fprintf(json, "\\u%04x", *text);
		else
			fputc(*text, json);
	}
	fputc('"', json);
}

static void put_json(const struct results *results)
{
	struct utsname kernel;

	uname(&kernel);
	fputs("{\"meta\": {", json);
	put_string("kernel", kernel.release);
	fputs(", ", json);
	put_string("host", kernel.nodename);
	/* As text: a reader's numbers may have 53 bits. */
	fprintf(json,
		", \"seed\": \"%" PRIu64 "\", \"rounds\": %zu},\n"
		" \"results\": [",
		options.seed, options.repeat);
	for (size_t i = 0; i < results->nr; i++) {
		const struct result *result = &results->all[i];

		fputs(i ? ",\n  {" : "\n  {", json);
		put_string("name", result->name);
		fputs(", ", json);
		put_string("device", result->device);
		fputs(", ", json);
		put_string("outcome", outcomes[result->outcome]);
		fputs(", ", json);
		put_string("reason", result->reason);
		if (result->outcome == SKIPPED_TEST) {
			size_t length = strcspn(result->reason, ":");
			char *lacking = strndup(result->reason, length);

			fputs(", ", json);
			put_string("lacking", lacking);
			free(lacking);
		}
		fprintf(json, ", \"seconds\": %.3f}", result->seconds);
	}
	fputs("\n]}\n", json);
}

bool reports_write(const struct results *results)
{
	bool good = true;

	if (junit) {
		put_junit(results);
		good &= close_one(options.junit, junit);
	}
	if (json) {
		put_json(results);
		good &= close_one(options.json, json);
	}
	return good;
}

void print_summary(const struct results *results, double seconds)
{
	for (size_t i = 0; i < results->nr; i++)
		if (results->all[i].outcome == FAILED_TEST)
			fprintf(stderr, "odp-tests: FAILED %s on %s: %s\n",
				results->all[i].name, results->all[i].device,
				results->all[i].reason);
	fprintf(stderr,
		"odp-tests: %zu passed, %zu failed, %zu skipped in %.0f s; "
		"--seed=%" PRIu64 " repeats it\n",
		results_count(results, PASSED_TEST),
		results_count(results, FAILED_TEST),
		results_count(results, SKIPPED_TEST), seconds, options.seed);
}
