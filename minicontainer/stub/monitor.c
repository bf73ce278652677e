/* The monitor: relays a container's input and output, writes its log, and notes how it ended.
 *
 * Compiled twice from this one file: into the cffi extension, where the foreground `run` calls monitor_run(), and
 * with -DMONITOR_MAIN into the static program that a detached container's parent becomes by execve:
 *
 *   monitor pid=N pidfd=N [out=N] [err=N] [in=N] [tty=N] [log=PATH log-max-size=BYTES log-max-files=N]
 *           [exit-file=PATH] [oom-file=PATH] [-- CLEANUP ARGV...]
 *
 * When the container has ended it becomes CLEANUP (or exits with the container's status).  Only SIGKILL ends it
 * earlier.  It sleeps in one ppoll() and wakes only when there is something to do.  No allocation, no C library.
 *
 * build: gcc -O2 -static -nostdlib -ffreestanding -fno-stack-protector -DMONITOR_MAIN (minicontainer/kernel/build.py) */
#ifdef MONITOR_MAIN
#define SYS_START
#endif
#include "sys.h"
#include "monitor.h"

#include <asm/ioctls.h>
#include <linux/fcntl.h>
#include <linux/prctl.h>
#include <linux/signalfd.h>
#include <linux/time_types.h>

#include "jsonlog.c"
#include "relay.c"

#define MONITOR_RETRY_NS 100000000 /* how often a pty that nobody has open is looked at again */

/* -- signals and the end --------------------------------------------------------------------------------------- */

static void mon_reap(struct mon_state *st)
{
	int status;
	long pid;

	/* Elsewhere only init is waited for: other children of a Python command are its own affair. */
	while ((pid = sys4(__NR_wait4, st->m->reap ? -1 : st->m->pid, &status, MON_WNOHANG, 0)) > 0) {
		if (pid == st->m->pid) {
			st->ended = 1;
			st->status = status;
		}
	}
	if (pid == -ECHILD && !st->ended) { /* somebody else waited for it: its status is lost, its end is not */
		st->ended = 1;
		st->status = 255 << 8;
	}
}

static void mon_signals(struct mon_state *st)
{
	struct signalfd_siginfo info;

	while (sys3(__NR_read, st->sigfd, &info, sizeof info) == sizeof info) {
		int sig = (int)info.ssi_signo;

		if (sig == MON_SIGWINCH) {
			mon_resize(st);
		} else if (sig == MON_SIGCHLD) {
			if (st->m->reap && !st->ended)
				mon_reap(st);
		} else if (sig != MON_SIGPIPE && st->m->forward) {
			if (!st->ended)
				sys4(__NR_pidfd_send_signal, st->m->pidfd, sig, 0, 0);
			else if (sig == MON_SIGINT || sig == MON_SIGTERM || sig == MON_SIGHUP || sig == MON_SIGQUIT)
				st->abandon = 1; /* nothing is left to wait for but a user who does not read */
		}
	}
}

/* All but what can't be caught, what must stop a background job that touches its terminal, and SIGURG.  What is not
 * forwarded is read and dropped.  SIGWINCH never reaches the container as a signal: without a terminal it has no
 * meaning for it, and httpd takes it for an order to stop. */
static int mon_sigfd(const struct monitor *m, uint64_t *before)
{
#define MON_BIT(sig) (1ull << ((sig) - 1))
	uint64_t block = ~(MON_BIT(MON_SIGKILL) | MON_BIT(MON_SIGSTOP) | MON_BIT(MON_SIGTTIN) | MON_BIT(MON_SIGTTOU)
			   | MON_BIT(MON_SIGURG) | MON_BIT(32) | MON_BIT(33) /* the C library's own */);

	if (!m->reap)
		block &= ~MON_BIT(MON_SIGCHLD);
#undef MON_BIT
	sys4(__NR_rt_sigprocmask, MON_SETMASK, &block, before, sizeof block);
	return (int)sys4(__NR_signalfd4, -1, &block, sizeof block, O_NONBLOCK | O_CLOEXEC);
}

/* The N of the line "oom_kill N" of a cgroup's file, 0 without one. */
static uint64_t mon_oom_kills(const char *path)
{
	static const char name[] = "\noom_kill ";
	char text[1025];
	uint64_t kills = 0;
	long fd = sys4(__NR_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0), n;

	if (fd < 0)
		return 0;
	n = sys3(__NR_read, fd, text + 1, sizeof text - 1);
	sys1(__NR_close, fd);
	text[0] = '\n';
	for (long i = 0, matched = 0; i <= n; i++) {
		matched = text[i] == name[matched] ? matched + 1 : text[i] == '\n';
		if (matched < (long)sizeof name - 1)
			continue;
		while (++i <= n && text[i] >= '0' && text[i] <= '9')
			kills = kills * 10 + (uint64_t)(text[i] - '0');
		break;
	}
	return kills;
}

/* Atomically: a reader sees no file or all of it, also after a crash of the machine. */
static void mon_exit_file(struct mon_state *st)
{
	const struct monitor *m = st->m;
	struct jsonlog_time now = jsonlog_now();
	int status = st->status, signal = status & 0x7f;
	char path[JSONLOG_PATH + 16], text[256], *end;
	long fd;

	end = jsonlog_text(text, "{\"exit_code\": ");
	end = jsonlog_number(end, (uint64_t)(signal ? 128 + signal : status >> 8 & 0xff), 1);
	end = jsonlog_number(jsonlog_text(end, ", \"signal\": "), (uint64_t)signal, 1);
	end = jsonlog_text(end, ", \"finished_ns\": ");
	end = jsonlog_number(end, (uint64_t)now.seconds * 1000000000u + now.nanoseconds, 1);
	end = jsonlog_number(jsonlog_text(end, ", \"oom\": "), m->oom_file ? mon_oom_kills(m->oom_file) : 0, 1);
	end = jsonlog_text(end, "}\n");
	if (!m->exit_file || st->noted)
		return;
	st->noted = 1;
	*jsonlog_text(jsonlog_text(path, m->exit_file), ".new") = 0;
	fd = sys4(__NR_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		return;
	if (sys3(__NR_write, fd, text, end - text) == end - text)
		jsonlog_rename(path, m->exit_file);
	sys1(__NR_close, fd);
}

/* -- the loop -------------------------------------------------------------------------------------------------- */

static void mon_want(struct mon_state *st, struct mon_pollfd *p)
{
	for (int i = 0; i < MON_NFDS; i++)
		p[i] = (struct mon_pollfd){ -1, 0, 0 };
	p[MON_PIDFD].fd = st->ended ? -1 : st->m->pidfd;
	p[MON_SIGNAL].fd = st->sigfd;
	p[MON_PIDFD].events = p[MON_SIGNAL].events = MON_POLLIN;
	for (int i = 0; i < 2; i++) {
		struct mon_source *s = &st->source[i];

		if (mon_pending(s))
			p[MON_USER_OUT + i] = (struct mon_pollfd){ s->sink.fd, MON_POLLOUT, 0 };
		else if (!s->hung)
			p[MON_OUT + i] = (struct mon_pollfd){ s->fd, MON_POLLIN, 0 };
	}
	if (st->ended)
		return;
	/* Without events poll() still reports POLLERR: the container closed its stdin, nobody need type any more.  Not so
	 * a pty, which reports POLLHUP all the time while nobody has it open. */
	if (st->in_used)
		p[MON_IN] = (struct mon_pollfd){ st->in, MON_POLLOUT, 0 };
	else if (st->in != st->tty)
		p[MON_IN] = (struct mon_pollfd){ st->in, 0, 0 };
	if (!st->in_used && st->in >= 0)
		p[MON_USER_IN] = (struct mon_pollfd){ st->user_in, MON_POLLIN, 0 };
}

/* -> 0 or MONITOR_DETACHED */
static int mon_serve(struct mon_state *st, const struct mon_pollfd *p)
{
	if (p[MON_SIGNAL].revents)
		mon_signals(st);
	for (int i = 0; i < 2; i++) {
		struct mon_source *s = &st->source[i];

		if (p[MON_USER_OUT + i].revents) {
			mon_send(s);
			mon_compact(s);
			mon_unheard(st, s);
		}
		if (s->fd >= 0 && (p[MON_OUT + i].revents || s->hung || (st->ended && !mon_pending(s))))
			mon_receive(st, s);
	}
	if (p[MON_IN].revents) {
		if (st->in_used)
			mon_feed(st);
		else
			mon_input_end(st);
	}
	/* Last, so that what poll() saw of the pipes counts as seen before the end. */
	if (p[MON_PIDFD].revents)
		mon_reap(st);
	return p[MON_USER_IN].revents && st->user_in >= 0 ? mon_take(st) : 0;
}

static int mon_loop(struct mon_state *st)
{
	struct mon_source *out = &st->source[0], *err = &st->source[1];
	int result = 0;

	while (!result && !st->abandon) {
		struct mon_pollfd p[MON_NFDS];
		int drained = out->fd < 0 && err->fd < 0;
		int hung = out->hung && !st->ended;
		/* Once init has ended nothing is waited for but a user who has not taken all yet. */
		int at_once = st->ended && !mon_pending(out) && !mon_pending(err);
		struct __kernel_timespec wait = { 0, at_once ? 0 : MONITOR_RETRY_NS };

		if (at_once && drained)
			break;
		if (st->ended && !at_once)
			mon_exit_file(st); /* others need not wait for that user; else it is written after the log */
		mon_want(st, p);
		sys5(__NR_ppoll, p, MON_NFDS, at_once || hung ? &wait : 0, 0, 0);
		result = mon_serve(st, p);
	}
	return result;
}

static void mon_begin(struct mon_state *st, const struct monitor *m)
{
	static const char *const names[] = { "stdout", "stderr" };
	const int fds[] = { m->tty >= 0 ? m->tty : m->out, m->err }, users[] = { m->user_out, m->user_err };

	st->m = m;
	st->log.path = m->log;
	st->log.max_size = m->log_max_size;
	st->log.max_files = m->log_max_files;
	st->log.used = 0;
	st->log.lost = st->log.size = 0;
	st->log.fd = -1;
	if (m->log)
		jsonlog_open(&st->log);
	for (int i = 0; i < 2; i++) {
		struct mon_source *s = &st->source[i];

		s->fd = fds[i];
		s->stream = names[i];
		s->sink = mon_sink_open(fds[i] >= 0 ? users[i] : -1);
		s->start = s->sent = s->end = 0;
		s->partial = s->hung = 0;
		mon_nonblocking(s->fd);
	}
	st->tty = m->tty;
	st->in = m->tty >= 0 ? m->tty : m->in;
	st->user_in = m->user_in;
	mon_nonblocking(st->in);
	st->in_used = st->in_sent = 0;
	st->detach_matched = 0;
	st->ended = st->status = st->abandon = st->noted = 0;
	mon_resize(st);
}

static void mon_end(struct mon_state *st, int detached)
{
	for (int i = 0; i < 2; i++) {
		struct mon_source *s = &st->source[i];

		if (s->fd >= 0)
			mon_source_end(st, s);
		mon_sink_close(&s->sink);
	}
	mon_input_end(st);
	if (!detached)
		mon_close(&st->tty);
	mon_close(&st->log.fd);
}

static int mon_too_long(const char *path)
{
	uint32_t n = 0;

	while (path && path[n])
		n++;
	return n >= JSONLOG_PATH;
}

int monitor_run(const struct monitor *m)
{
	static struct mon_state state; /* one container to a process; too big for the stack of a thread */
	struct mon_state *st = &state;
	uint64_t before;
	int result;

	if (mon_too_long(m->log) || mon_too_long(m->exit_file))
		return -ENAMETOOLONG;
	st->sigfd = mon_sigfd(m, &before);
	if (st->sigfd < 0) {
		sys4(__NR_rt_sigprocmask, MON_SETMASK, &before, 0, sizeof before);
		return st->sigfd;
	}
	mon_begin(st, m);
	result = mon_loop(st);
	mon_end(st, result == MONITOR_DETACHED);
	if (!result) {
		result = st->status;
		mon_exit_file(st);
	}
	mon_signals(st); /* what came too late ends with the container */
	sys1(__NR_close, st->sigfd);
	sys4(__NR_rt_sigprocmask, MON_SETMASK, &before, 0, sizeof before);
	return result;
}

#ifdef MONITOR_MAIN
enum { MON_USAGE = 64, MON_CANNOT_EXEC = 126 };

/* The value of the word "name=value", or 0. */
static const char *mon_value(const char *word, const char *name)
{
	while (*name && *word == *name)
		word++, name++;
	return !*name && *word == '=' ? word + 1 : 0;
}

static uint64_t mon_decimal(const char *text)
{
	uint64_t value = 0;

	while (*text >= '0' && *text <= '9')
		value = value * 10 + (uint64_t)(*text++ - '0');
	return value;
}

static int mon_option(struct monitor *m, const char *word)
{
	const struct { const char *name; int *to; } numbers[] = {
		{ "pid", &m->pid }, { "pidfd", &m->pidfd }, { "out", &m->out }, { "err", &m->err }, { "in", &m->in },
		{ "tty", &m->tty }, { "log-max-files", &m->log_max_files },
	};
	const struct { const char *name; const char **to; } texts[] = {
		{ "log", &m->log }, { "exit-file", &m->exit_file }, { "oom-file", &m->oom_file },
	};
	const char *value;

	for (uint32_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
		if ((value = mon_value(word, numbers[i].name))) {
			*numbers[i].to = (int)mon_decimal(value);
			return 1;
		}
	}
	for (uint32_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
		if ((value = mon_value(word, texts[i].name))) {
			*texts[i].to = value;
			return 1;
		}
	}
	if ((value = mon_value(word, "log-max-size")))
		m->log_max_size = mon_decimal(value);
	return value != 0;
}

int start(long argc, char **argv, char **envp)
{
	struct monitor m = { .pid = -1, .pidfd = -1, .out = -1, .err = -1, .in = -1, .tty = -1,
			     .user_in = -1, .user_out = -1, .user_err = -1, .reap = 1, .log_max_files = 1 };
	uint64_t none = 0, ignore[4] = { 1 /* SIG_IGN */ }, standard[4] = { 0 };
	int status;
	long i;

	for (i = 1; i < argc; i++) {
		if (argv[i][0] == '-' && argv[i][1] == '-' && !argv[i][2])
			break;
		if (!mon_option(&m, argv[i]))
			return MON_USAGE;
	}
	if (m.pid <= 0 || m.pidfd < 0)
		return MON_USAGE;
	sys1(__NR_chdir, "/"); /* pins no mount */
	sys2(__NR_prctl, PR_SET_CHILD_SUBREAPER, 1);
	sys4(__NR_rt_sigaction, MON_SIGPIPE, ignore, 0, 8);
	sys4(__NR_rt_sigaction, MON_SIGCHLD, standard, 0, 8); /* ignored, it would take the exit status away */
	status = monitor_run(&m);
	sys4(__NR_rt_sigprocmask, MON_SETMASK, &none, 0, sizeof none);
	if (i + 1 < argc) {
		sys3(__NR_execve, argv[i + 1], argv + i + 1, envp);
		return MON_CANNOT_EXEC;
	}
	return status < 0 ? MON_USAGE : status & 0x7f ? 128 + (status & 0x7f) : status >> 8 & 0xff;
}
#endif
