/* The relay: bytes between a container's descriptors and the user's, and into the log.
 *
 * Nothing here waits: each function does what can be done now, and the loop in monitor.c asks ppoll() for the rest.
 * The container is held back (its pipe fills) while the user does not read; it is never held back by its log. */

/* Kernel numbers, which are the same on x86_64 and aarch64: their headers clash with the C library's. */
enum {
	MON_POLLIN = 1, MON_POLLOUT = 4,
	MON_SIGHUP = 1, MON_SIGINT = 2, MON_SIGQUIT = 3, MON_SIGKILL = 9, MON_SIGPIPE = 13, MON_SIGTERM = 15,
	MON_SIGCHLD = 17, MON_SIGSTOP = 19, MON_SIGTTIN = 21, MON_SIGTTOU = 22, MON_SIGURG = 23, MON_SIGWINCH = 28,
	MON_SETMASK = 2, MON_WNOHANG = 1, MON_DONTWAIT = 0x40, MON_NOSIGNAL = 0x4000,
	MON_SOL_SOCKET = 1, MON_SO_TYPE = 3,
};

struct mon_pollfd {
	int fd;
	short events;
	short revents;
};

/* Where a stream goes on the user's side.  The user's descriptor is shared with the shell, so it can't be made
 * non-blocking: a pipe or a terminal is opened anew, a socket takes MSG_DONTWAIT, a file never blocks. */
struct mon_sink {
	int fd; /* -1: gone or never there */
	int wanted; /* there was one */
	int own;
	int socket;
	int whole; /* takes any amount without blocking: else one page at a time, poll() promises no more */
};

/* One stream of the container: buf[start..end) waits for the rest of its line, buf[sent..end) for the user. */
struct mon_source {
	int fd; /* -1: ended */
	int hung; /* a pty that no process has open at the moment */
	const char *stream;
	struct mon_sink sink;
	uint32_t start, sent, end;
	int partial; /* the line has been logged in part, at time `since` */
	struct jsonlog_time since;
	unsigned char buf[JSONLOG_PART];
};

struct mon_state {
	const struct monitor *m;
	struct jsonlog log;
	struct mon_source source[2];
	int tty; /* m->tty until it is hung up */
	int in, in_used, in_sent, user_in; /* towards the container's stdin */
	uint32_t detach_matched;
	int sigfd;
	int ended, status, abandon;
	int noted; /* the exit file is written */
	char input[JSONLOG_PART + 16];
};

enum { MON_PIDFD, MON_SIGNAL, MON_OUT, MON_ERR, MON_USER_OUT, MON_USER_ERR, MON_IN, MON_USER_IN, MON_NFDS };

static void mon_close(int *fd)
{
	if (*fd >= 0)
		sys1(__NR_close, *fd);
	*fd = -1;
}

static void mon_nonblocking(int fd)
{
	if (fd >= 0)
		sys3(__NR_fcntl, fd, F_SETFL, sys3(__NR_fcntl, fd, F_GETFL, 0) | O_NONBLOCK);
}

static void mon_copy(char *to, const char *from, uint32_t n)
{
	while (n--)
		*to++ = *from++;
}

/* -- towards the user ------------------------------------------------------------------------------------------ */

static struct mon_sink mon_sink_open(int fd)
{
	struct mon_sink s = { .fd = fd, .wanted = fd >= 0 };
	char path[32], size[64];
	int type = 0, length = sizeof type;
	long own = -1;

	if (fd < 0)
		return s;
	*jsonlog_number(jsonlog_text(path, "/proc/self/fd/"), (uint64_t)fd, 1) = 0;
	if (sys5(__NR_getsockopt, fd, MON_SOL_SOCKET, MON_SO_TYPE, &type, &length) == 0)
		s.socket = 1;
	else if (sys3(__NR_fcntl, fd, F_GETPIPE_SZ, 0) > 0 || sys3(__NR_ioctl, fd, TCGETS, size) == 0)
		own = sys4(__NR_openat, AT_FDCWD, path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0);
	if (own >= 0) {
		s.fd = (int)own;
		s.own = 1;
	}
	s.whole = s.own || s.socket || sys3(__NR_lseek, fd, 0, 1 /* SEEK_CUR */) >= 0;
	return s;
}

static void mon_sink_close(struct mon_sink *s)
{
	if (s->own)
		mon_close(&s->fd);
	s->fd = -1;
}

/* Hands the user what waits for him, as far as he takes it now.  A user who is gone (EPIPE) ends the stream: the
 * container learns it by EPIPE itself, as every program of a pipeline does, instead of running on unheard. */
static void mon_send(struct mon_source *s)
{
	while (s->sink.fd >= 0 && s->sent < s->end) {
		uint32_t n = s->end - s->sent;
		long written;

		if (!s->sink.whole && n > 4096)
			n = 4096;
		written = s->sink.socket
			? sys6(__NR_sendto, s->sink.fd, (long)(s->buf + s->sent), n, MON_DONTWAIT | MON_NOSIGNAL, 0, 0)
			: sys3(__NR_write, s->sink.fd, s->buf + s->sent, n);
		if (written == -EAGAIN || written == -EINTR)
			return;
		if (written < 0)
			mon_sink_close(&s->sink);
		else
			s->sent += (uint32_t)written;
		if (!s->sink.whole)
			break;
	}
	if (s->sink.fd < 0)
		s->sent = s->end;
}

static int mon_pending(const struct mon_source *s)
{
	return s->sink.fd >= 0 && s->sent < s->end;
}

/* -- from the container ---------------------------------------------------------------------------------------- */

/* Logs the whole lines that have come, and a part of one that fills the buffer; `last` logs the rest as well. */
static void mon_log(struct mon_state *st, struct mon_source *s, int last)
{
	struct jsonlog_time now;

	if (!st->log.path || s->start == s->end) {
		s->start = s->end;
		return;
	}
	now = jsonlog_now();
	for (uint32_t i = s->start; i < s->end; i++) {
		if (s->buf[i] != '\n')
			continue;
		jsonlog_add(&st->log, s->stream, s->buf + s->start, i - s->start, 1, s->partial ? s->since : now);
		s->start = i + 1;
		s->partial = 0;
	}
	if (s->start < s->end && (last || s->end - s->start == sizeof s->buf)) {
		uint32_t n = s->end - s->start;

		if (!last)
			n = jsonlog_cut(s->buf + s->start, n);
		if (!s->partial)
			s->since = now;
		s->partial = 1;
		jsonlog_add(&st->log, s->stream, s->buf + s->start, n, 0, s->since);
		s->start += n;
	}
	jsonlog_flush(&st->log);
}

/* Moves the rest of a line to the front once the user has all of it. */
static void mon_compact(struct mon_source *s)
{
	if (mon_pending(s))
		return;
	if (s->start)
		mon_copy((char *)s->buf, (char *)s->buf + s->start, s->end - s->start);
	s->end -= s->start;
	s->sent = s->end;
	s->start = 0;
}

static void mon_source_end(struct mon_state *st, struct mon_source *s)
{
	mon_log(st, s, 1);
	if (s->fd != st->tty)
		sys1(__NR_close, s->fd);
	s->fd = -1;
	s->hung = 0;
}

/* The user's terminal is gone: closing the master sends SIGHUP to the container's session, as for any terminal. */
static void mon_hang_up(struct mon_state *st)
{
	if (st->source[0].fd >= 0)
		mon_source_end(st, &st->source[0]);
	st->in = st->user_in = -1;
	mon_close(&st->tty);
}

/* Ends a stream whose user is gone. */
static void mon_unheard(struct mon_state *st, struct mon_source *s)
{
	if (!s->sink.wanted || s->sink.fd >= 0 || s->fd < 0)
		return;
	if (s->fd == st->tty)
		mon_hang_up(st);
	else
		mon_source_end(st, s);
}

/* One read.  Once init has ended an empty pipe is the end, even if somebody outside its pid namespace still holds it
 * (--pid host): all that init wrote is in it by then, also in a pty, whose master's read flushes it first. */
static void mon_receive(struct mon_state *st, struct mon_source *s)
{
	long n = sys3(__NR_read, s->fd, s->buf + s->end, sizeof s->buf - s->end);

	s->hung = n == -EIO && s->fd == st->tty && !st->ended;
	if (n > 0) {
		s->end += (uint32_t)n;
		mon_log(st, s, 0);
		mon_send(s);
		mon_compact(s);
		mon_unheard(st, s);
	} else if (!s->hung && n != -EINTR && (n != -EAGAIN || st->ended)) {
		mon_source_end(st, s);
	}
}

/* -- towards the container ------------------------------------------------------------------------------------- */

/* Takes the detach keys out of the n bytes that came.  Keys that turn out to be no detaching follow later, in order.
 * -> bytes in `to`, or MONITOR_DETACHED */
static int mon_keys(struct mon_state *st, const char *keys, char *to, const char *from, long n)
{
	char *start = to;

	for (long i = 0; i < n; i++) {
		if (from[i] != keys[st->detach_matched]) {
			for (uint32_t k = 0; k < st->detach_matched; k++)
				*to++ = keys[k];
			st->detach_matched = 0;
		}
		if (from[i] == keys[st->detach_matched])
			st->detach_matched++;
		else
			*to++ = from[i];
		if (!keys[st->detach_matched])
			return MONITOR_DETACHED;
	}
	return (int)(to - start);
}

static void mon_input_end(struct mon_state *st)
{
	if (st->in != st->tty)
		mon_close(&st->in);
	st->in = st->user_in = -1;
	st->in_used = st->in_sent = 0;
}

static void mon_feed(struct mon_state *st)
{
	while (st->in >= 0 && st->in_sent < st->in_used) {
		long n = sys3(__NR_write, st->in, st->input + st->in_sent, st->in_used - st->in_sent);

		if (n == -EAGAIN || n == -EINTR)
			return;
		if (n < 0)
			mon_input_end(st);
		else
			st->in_sent += (int)n;
	}
	st->in_used = st->in_sent = 0;
	if (st->user_in < 0 && st->m->user_in >= 0 && st->in >= 0) { /* the user's end of file, after all he wrote */
		char settings[64];

		/* A terminal has an end only by hanging up.  A file or a pipe has one, and the output is wanted all the same. */
		if (st->in == st->tty && sys3(__NR_ioctl, st->m->user_in, TCGETS, settings) != -ENOTTY)
			mon_hang_up(st);
		else
			mon_input_end(st);
	}
}

/* -> 0 or MONITOR_DETACHED */
static int mon_take(struct mon_state *st)
{
	const char *keys = st->tty >= 0 && st->m->detach_keys && *st->m->detach_keys ? st->m->detach_keys : 0;
	char typed[4096];
	/* A terminal's keys pass through `typed`, so that those held back find room before them. */
	long n = sys3(__NR_read, st->user_in, keys ? typed : st->input, keys ? sizeof typed : JSONLOG_PART);

	if (n == -EAGAIN || n == -EINTR)
		return 0;
	if (n <= 0) {
		st->user_in = -1;
	} else {
		st->in_used = keys ? mon_keys(st, keys, st->input, typed, n) : (int)n;
		if (st->in_used == MONITOR_DETACHED)
			return MONITOR_DETACHED;
	}
	mon_feed(st);
	return 0;
}

/* The user's window size becomes the pty's; the kernel tells the container's foreground job with SIGWINCH. */
static void mon_resize(const struct mon_state *st)
{
	const int users[] = { st->m->user_out, st->m->user_in, st->m->user_err };
	uint16_t size[4];

	for (int i = 0; st->tty >= 0 && i < 3; i++) {
		if (users[i] >= 0 && sys3(__NR_ioctl, users[i], TIOCGWINSZ, size) == 0) {
			sys3(__NR_ioctl, st->tty, TIOCSWINSZ, size);
			return;
		}
	}
}
