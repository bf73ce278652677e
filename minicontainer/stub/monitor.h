/* The monitor's interface: one loop that stands beside a running container.
 *
 *            user's 0 --> in --> +-----------+ --> out --> user's 1   \
 *                                | container |                         > json-file log
 *                                +-----------+ --> err --> user's 2   /
 *       signals, window size -->       |
 *                                      '--> pidfd: it ended --> exit file
 *
 * A detached container has no user side: only the log.  The same loop serves both (monitor.c). */
#ifndef MINICONTAINER_MONITOR_H
#define MINICONTAINER_MONITOR_H

#include <stdint.h>

#define MONITOR_DETACHED (-4096) /* the user typed the detach keys; the container runs on */

/* A descriptor that is not wanted is -1, a path or text that is not wanted is 0. */
struct monitor {
	int pid;               /* the container's init: a child of the caller */
	int pidfd;
	int out;               /* read ends of its stdout and stderr pipes */
	int err;
	int in;                /* write end of its stdin pipe */
	int tty;               /* master of its pty; then out, err and in are -1 */
	int user_in;           /* the user's own descriptors: never closed, never made non-blocking */
	int user_out;
	int user_err;
	int forward;           /* 1: signals are sent on to init (docker's --sig-proxy); 0: they are ignored */
	int reap;              /* 1: every child of this process is waited for, not only init (a subreaper) */
	int log_max_files;     /* the live file counts as one */
	uint64_t log_max_size; /* bytes; 0: no rotation */
	const char *log;       /* json-file log, docker's format */
	const char *exit_file; /* {"exit_code": …, "signal": …, "finished_ns": …, "oom": …} once it ended */
	const char *oom_file;  /* memory.events (v2) or memory.oom_control (v1): "oom_kill N" goes into the exit file */
	const char *detach_keys; /* with tty: these bytes in a row detach */
};

/* Runs until the container has ended and all it wrote is relayed: its wait status (wait(2)), MONITOR_DETACHED, or
 * -errno when the loop could not start.  It takes over out, err, in and tty: makes them non-blocking and closes
 * them, but leaves tty open when detached. */
int monitor_run(const struct monitor *m);

#endif
