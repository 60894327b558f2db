// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
// Copyright (c) 2026 The Twostep authors

#define _GNU_SOURCE
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "place.h"
#include "proc.h"
#include "suite.h"
#include "watch.h"

/* For what is printed of a late test. */
#define PATIENCE_SECONDS 10

/**
 * struct watch - the thread, and what it waits for
 * @lock: of the rest
 * @changed: a test began or ended
 * @thread: runs as long as the program
 * @process: of the test, or NULL
 * @end: when it is late
 * @seconds: that it may take
 * @log: the kernel's messages, read up to the test's begin; -1 if that is not allowed
 */
static struct watch {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	pthread_t thread;
	const pid_t *process;
	struct timespec end;
	double seconds;
	int log;
} watch = { .lock = PTHREAD_MUTEX_INITIALIZER, .log = -1 };

static void print_file(const char *path)
{
	FILE *file = fopen(path, "re");
	char line[512];

	while (file && fgets(line, sizeof(line), file))
		printf("#   %s%s", line, strchr(line, '\n') ? "" : "\n");
	if (file)
		fclose(file);
}

static void print_threads(pid_t process)
{
	struct dirent *entry;
	char path[64 + sizeof(entry->d_name)];
	DIR *threads;

	snprintf(path, sizeof(path), "/proc/%d/task", process);
	threads = opendir(path);
	while (threads && (entry = readdir(threads))) {
		if (!isdigit((unsigned char)*entry->d_name))
			continue;
		printf("# thread %s, in the kernel:\n", entry->d_name);
		snprintf(path, sizeof(path), "/proc/%d/task/%s/wchan", process,
			 entry->d_name);
		print_file(path);
		snprintf(path, sizeof(path), "/proc/%d/task/%s/stack", process,
			 entry->d_name);
		print_file(path);
	}
	if (threads)
		closedir(threads);
}

/* With rdma(8) of iproute2, which asks the kernel and not the process. */
static void print_queue_pairs(void)
{
	char line[512], command[128];
	FILE *said;

	snprintf(
		command, sizeof(command),
		"PATH=$PATH:/sbin:/usr/sbin rdma resource show qp link %s/%u 2>&1",
		place.device, place.port);
	printf("# queue pairs of %s:\n", place.device);
	fflush(stdout);
	said = popen(command, "re");
	while (said && fgets(line, sizeof(line), said))
		printf("#   %s", line);
	if (said)
		pclose(said);
}

static void print_counters(void)
{
	char folder[256], path[256 + 256];
	struct dirent *entry;
	char value[64];
	DIR *counters;
	FILE *file;

	snprintf(folder, sizeof(folder),
		 "/sys/class/infiniband/%s/ports/%u/hw_counters", place.device,
		 place.port);
	printf("# counters that are not 0:\n");
	counters = opendir(folder);
	while (counters && (entry = readdir(counters))) {
		snprintf(path, sizeof(path), "%s/%s", folder, entry->d_name);
		file = *entry->d_name == '.' ? NULL : fopen(path, "re");
		if (!file)
			continue;
		if (fgets(value, sizeof(value), file) && strcmp(value, "0\n"))
			printf("#   %s %s", entry->d_name, value);
		fclose(file);
	}
	if (counters)
		closedir(counters);
}

static bool is_registered(uintptr_t from, uintptr_t to)
{
	size_t nr = board->nr_regions < COUNT(board->regions) ?
			    board->nr_regions :
			    COUNT(board->regions);

	for (size_t i = 0; i < nr; i++) {
		uintptr_t bytes = (uintptr_t)board->regions[i].bytes;

		if (bytes < to && bytes + board->regions[i].size > from)
			return true;
	}
	return false;
}

/* The lines of smaps about registered memory. */
static void print_memory(pid_t process)
{
	char path[64], line[512];
	uintptr_t from, to;
	bool ours = false;
	FILE *smaps;

	printf("# registered memory:\n");
	snprintf(path, sizeof(path), "/proc/%d/smaps", process);
	smaps = fopen(path, "re");
	while (smaps && fgets(line, sizeof(line), smaps)) {
		if (smaps_mapping(line, &from, &to))
			ours = is_registered(from, to);
		if (ours && !strstr(line, " 0 kB"))
			printf("#   %s", line);
	}
	if (smaps)
		fclose(smaps);
}

/* A read gives one message: "priority,number,time,flags;text" and more lines. */
static void print_log(void)
{
	char message[4096];
	ssize_t length;

	printf("# the kernel said:\n");
	if (watch.log < 0)
		printf("#   (only root is told)\n");
	while (watch.log >= 0) {
		char *text;

		length = read(watch.log, message, sizeof(message) - 1);
		/* EPIPE: some were written over before they were read. */
		if (length < 0 && errno == EPIPE)
			continue;
		if (length <= 0)
			break;
		message[length] = 0;
		text = strchr(message, ';');
		if (text)
			printf("#   %.*s\n", (int)strcspn(text + 1, "\n"),
			       text + 1);
	}
}

/*
 * What asks for locks that a hanging test may keep: by a process of its own, which ends after
 * some seconds in any case.
 */
static void print_what_may_hang(pid_t process)
{
	pid_t child;

	fflush(stdout);
	child = fork();
	if (!child) {
		alarm(PATIENCE_SECONDS);
		print_queue_pairs();
		print_memory(process);
		fflush(stdout);
		_exit(0);
	}
	if (child > 0)
		waitpid(child, NULL, 0);
}

static void end_late(pid_t process, double seconds)
{
	printf("# not done in %.0f s, at: %s\n", seconds, doing);
	print_threads(process);
	print_counters();
	print_log();
	print_what_may_hang(process);
	test_is_late(seconds);
	kill(-process, SIGKILL);
}

static void *run_watch(void *nothing)
{
	double seconds;
	pid_t process;

	(void)nothing;
	pthread_mutex_lock(&watch.lock);
	for (;;) {
		if (!watch.process) {
			pthread_cond_wait(&watch.changed, &watch.lock);
		} else if (pthread_cond_timedwait(&watch.changed, &watch.lock,
						  &watch.end) &&
			   watch.process) {
			process = *watch.process;
			seconds = watch.seconds;
			watch.process = NULL;
			/* Whoever waits for the test must not wait for this too. */
			pthread_mutex_unlock(&watch.lock);
			end_late(process, seconds);
			pthread_mutex_lock(&watch.lock);
		}
	}
	return NULL;
}

static void start(void)
{
	pthread_condattr_t attr;

	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&watch.changed, &attr);
	pthread_condattr_destroy(&attr);
	watch.log = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (pthread_create(&watch.thread, NULL, run_watch, NULL)) {
		fprintf(stderr, "odp-tests: no thread to watch the tests\n");
		exit(1);
	}
}

void watch_begin(const pid_t *process, double seconds)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, start);
	pthread_mutex_lock(&watch.lock);
	if (watch.log >= 0)
		lseek(watch.log, 0, SEEK_END);
	clock_gettime(CLOCK_MONOTONIC, &watch.end);
	watch.end.tv_sec += (time_t)seconds + 1;
	watch.seconds = seconds;
	watch.process = process;
	pthread_cond_signal(&watch.changed);
	pthread_mutex_unlock(&watch.lock);
}

void watch_end(void)
{
	pthread_mutex_lock(&watch.lock);
	watch.process = NULL;
	pthread_cond_signal(&watch.changed);
	pthread_mutex_unlock(&watch.lock);
}
