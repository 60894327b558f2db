// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
// Copyright (c) 2026 The Twostep authors
/*
 * First process of the guest once it is set up: runs one command and reports
 * how it ended.
 *
 * Three virtio-serial ports lead to the host: "out" and "err" carry what the
 * command writes, byte for byte; "status" carries one line,
 *
 *	exit CODE TAINT OUT ERR
 *
 * where CODE is the command's exit status (128 + n after signal n), TAINT the
 * kernel's taint mask, and OUT and ERR how many bytes went to these ports. A
 * fourth, "in", feeds the terminal of an interactive run and does not exist
 * otherwise.
 *
 * Order that must hold: power goes off only after the host has answered the
 * status line. A write to a port returns when the data is queued, each port
 * has a queue of its own, and what is queued is lost with the machine; so the
 * host counts what it gets and answers when the counts are reached.
 *
 * The command has ended when its process has; what it left running in the
 * background may hold its pipes open and is killed. What such a process wrote
 * before is still delivered.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <dirent.h>
#include <pty.h>
#include <sys/ioctl.h>
#include <sys/reboot.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define COMMAND_FILE "/twostep/guest/command" /* arguments, each ended by NUL */
#define PORTS "/sys/class/virtio-ports"
#define KMEMLEAK "/sys/kernel/debug/kmemleak"
#define LEAK_AGE 6 /* seconds; MSECS_MIN_AGE of the kernel, and one */

static void power_off(void)
{
	sync();
	reboot(RB_POWER_OFF);
	for (;;)
		pause();
}

/* Without a status the host reports the guest as lost; say why on the console. */
static void give_up(const char *what)
{
	fprintf(stderr, "agent: %s: %s\n", what, strerror(errno));
	power_off();
}

static int open_port(const char *name, int flags)
{
	char path[300], found[64];
	struct dirent *entry;
	DIR *dir = opendir(PORTS);

	if (!dir)
		return -1;
	while ((entry = readdir(dir))) {
		FILE *file;
		bool match;

		if (entry->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), PORTS "/%s/name", entry->d_name);
		file = fopen(path, "re");
		if (!file)
			continue;
		match = fscanf(file, "%63s", found) == 1 &&
			!strcmp(found, name);
		fclose(file);
		if (match) {
			snprintf(path, sizeof(path), "/dev/%s", entry->d_name);
			closedir(dir);
			return open(path, flags | O_CLOEXEC);
		}
	}
	closedir(dir);
	errno = ENOENT;
	return -1;
}

static void write_all(int fd, const char *data, size_t length)
{
	while (length) {
		ssize_t n = write(fd, data, length);

		if (n < 0 && errno == EAGAIN) {
			struct pollfd room = { .fd = fd, .events = POLLOUT };

			/* a terminal whose reader is busy */
			poll(&room, 1, -1);
			continue;
		}
		if (n < 0) {
			if (errno == EINTR)
				continue;
			give_up("a port to the host is gone");
		}
		data += n;
		length -= n;
	}
}

/* Moves what is there now and adds to @count; returns false at the end of @from. */
static bool forward(int from, int to, unsigned long *count)
{
	static char buffer[65536];

	for (;;) {
		ssize_t n = read(from, buffer, sizeof(buffer));

		if (n > 0) {
			write_all(to, buffer, n);
			*count += n;
		} else if (n < 0 && errno == EINTR) {
			continue;
		} else {
			return n < 0 && errno == EAGAIN;
		}
	}
}

static char **read_command(void)
{
	static char text[131072];
	static char *argv[4096];
	int fd = open(COMMAND_FILE, O_RDONLY | O_CLOEXEC);
	size_t used = 0, count = 0;
	ssize_t n;

	if (fd < 0)
		give_up(COMMAND_FILE);
	while ((n = read(fd, text + used, sizeof(text) - 1 - used)) > 0)
		used += n;
	close(fd);
	if (used == sizeof(text) - 1)
		give_up("the command is too long");
	for (size_t at = 0; at < used && count < 4095;
	     at += strlen(text + at) + 1)
		argv[count++] = text + at;
	if (!count)
		give_up("no command");
	return argv;
}

static long read_taint(void)
{
	FILE *file = fopen("/proc/sys/kernel/tainted", "re");
	long taint = 0;

	if (file) {
		if (fscanf(file, "%ld", &taint) != 1)
			taint = 0;
		fclose(file);
	}
	return taint;
}

/* A kernel with kmemleak looks for leaks before it goes; what it finds it logs. */
static void scan_for_leaks(void)
{
	int fd = open(KMEMLEAK, O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return;
	/*
	 * Twice: the first scan only notes an object's checksum. And an object
	 * counts only if it was LEAK_AGE old when a scan began.
	 */
	if (write(fd, "scan", 4) == 4) {
		sleep(LEAK_AGE);
		if (write(fd, "scan", 4) != 4)
			perror("agent: " KMEMLEAK);
	}
	close(fd);
}

static void run_command(char **argv)
{
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	execvp(argv[0], argv);
	dprintf(STDERR_FILENO, "%s: %s\n", argv[0], strerror(errno));
	_exit(errno == ENOENT ? 127 : 126);
}

struct streams {
	int out; /* read end of the command's stdout, or the master of its terminal */
	int err; /* read end of its stderr, -1 on a terminal */
	unsigned long sent_out, sent_err, received;
};

static pid_t start(char **argv, bool terminal, struct streams *streams)
{
	int out[2], err[2];
	pid_t child;

	if (terminal) {
		struct winsize size = { .ws_row = 24, .ws_col = 80 };

		if (getenv("LINES") && getenv("COLUMNS")) {
			size.ws_row = atoi(getenv("LINES"));
			size.ws_col = atoi(getenv("COLUMNS"));
		}
		child = forkpty(&streams->out, NULL, NULL, &size);
		streams->err = -1;
	} else {
		if (pipe2(out, O_CLOEXEC) || pipe2(err, O_CLOEXEC))
			give_up("pipe");
		child = fork();
		if (!child) {
			int null = open("/dev/null", O_RDONLY);

			setsid();
			dup2(null, STDIN_FILENO);
			dup2(out[1], STDOUT_FILENO);
			dup2(err[1], STDERR_FILENO);
			if (null > STDERR_FILENO)
				close(null);
		} else {
			close(out[1]);
			close(err[1]);
			streams->out = out[0];
			streams->err = err[0];
			fcntl(streams->err, F_SETFL, O_NONBLOCK);
		}
	}
	if (child < 0)
		give_up("fork");
	if (!child)
		run_command(argv);
	fcntl(streams->out, F_SETFL, O_NONBLOCK);
	return child;
}

/* Reaps whatever ended; returns the command's exit code once it did, -1 before. */
static int reap(pid_t command)
{
	int code = -1, status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		if (pid == command)
			code = WIFEXITED(status) ? WEXITSTATUS(status) :
						   128 + WTERMSIG(status);
	return code;
}

static int relay(pid_t command, struct streams *streams, int signals,
		 int port_out, int port_err, int port_in)
{
	struct pollfd fds[] = {
		{ .fd = signals, .events = POLLIN },
		{ .fd = streams->out, .events = POLLIN },
		{ .fd = streams->err, .events = POLLIN },
		{ .fd = port_in, .events = POLLIN },
	};
	int code = -1;

	while (code < 0) {
		struct signalfd_siginfo info;

		if (poll(fds, 4, -1) < 0 && errno != EINTR)
			give_up("poll");
		if (fds[1].revents &&
		    !forward(streams->out, port_out, &streams->sent_out))
			fds[1].fd = -1;
		if (fds[2].revents &&
		    !forward(streams->err, port_err, &streams->sent_err))
			fds[2].fd = -1;
		if (fds[3].revents &&
		    !forward(port_in, streams->out, &streams->received))
			fds[3].fd = -1;
		if (fds[0].revents && read(signals, &info, sizeof(info)) > 0)
			code = reap(command);
	}
	forward(streams->out, port_out, &streams->sent_out);
	if (streams->err >= 0)
		forward(streams->err, port_err, &streams->sent_err);
	return code;
}

int main(int argc, char **argv)
{
	int port_out, port_err, port_in, port_status, signals, code;
	struct streams streams = { 0 };
	sigset_t child_ended;
	char line[128];

	port_out = open_port("out", O_WRONLY);
	port_err = open_port("err", O_WRONLY);
	port_status = open_port("status", O_RDWR);
	port_in = open_port("in", O_RDONLY | O_NONBLOCK);
	if (port_out < 0 || port_err < 0 || port_status < 0)
		give_up("ports");

	sigemptyset(&child_ended);
	sigaddset(&child_ended, SIGCHLD);
	sigprocmask(SIG_BLOCK, &child_ended, NULL);
	signals = signalfd(-1, &child_ended, SFD_CLOEXEC);

	if (argc == 3 && !strcmp(argv[1], "--trouble")) {
		streams.sent_err = dprintf(port_err, "ci/vm: %s\n", argv[2]);
		code = 125;
	} else {
		pid_t command = start(read_command(), port_in >= 0, &streams);

		code = relay(command, &streams, signals, port_out, port_err,
			     port_in);
	}

	kill(-1, SIGKILL);
	scan_for_leaks();
	snprintf(line, sizeof(line), "exit %d %ld %lu %lu\n", code,
		 read_taint(), streams.sent_out, streams.sent_err);
	write_all(port_status, line, strlen(line));
	if (read(port_status, line, 1) != 1)
		perror("agent: no answer to the status");
	power_off();
}
