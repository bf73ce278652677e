/* The interpreter of ops: runs a plan's ops one after the other and notes result and time of each.
 *
 * It is compiled twice from this one file: into the stub, which runs the container's half of a plan as the
 * container's first process, and into the cffi extension, which runs the host's half in the caller's process. */
#include "sys.h"
#include "plan.h"

#include <linux/fcntl.h>
#include <linux/openat2.h>
#include <linux/netlink.h>
#include <linux/sched.h>
#include <linux/stat.h>
#include <linux/time_types.h>
#include <asm/statfs.h>

#ifndef AT_EACCESS
#define AT_EACCESS 0x200
#endif

#define PATH_MAX 4096
#define TRIES_AT_MOST 128
#define CLOSE_AT_MOST 1024
#define LINKS_AT_MOST 40 /* as many as the kernel follows, path_resolution(7) */

static uint64_t now_ns(void)
{
	struct __kernel_timespec t;

	sys2(__NR_clock_gettime, 1 /* CLOCK_MONOTONIC */, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static long openat2(int dir, const char *path, uint64_t flags, uint64_t mode, uint64_t resolve)
{
	struct open_how how = { .flags = flags | O_CLOEXEC, .mode = mode, .resolve = resolve };
	long fd = -EAGAIN;

	for (int i = 0; fd == -EAGAIN && i < TRIES_AT_MOST; i++)
		fd = sys4(__NR_openat2, dir, path, &how, sizeof how);
	return fd;
}

/* openat2 below a directory says EAGAIN if something was renamed or mounted, anywhere, while it passed a ".." */
static long op_syscall(long nr, const uint64_t *a)
{
	long n = -EAGAIN;

	for (int i = 0; n == -EAGAIN && i < (nr == __NR_openat2 ? TRIES_AT_MOST : 1); i++)
		n = sys6(nr, (long)a[0], (long)a[1], (long)a[2], (long)a[3], (long)a[4], (long)a[5]);
	return n;
}

static long op_write(int dir, const char *path, const char *data, uint64_t len, uint64_t flags, uint64_t resolve)
{
	long fd = openat2(dir, path, flags, flags & O_CREAT ? 0644 : 0, resolve);

	if (fd < 0)
		return fd;
	/* One write: cgroup and proc files take a value as a whole, and a short write there is a failure. */
	long n = sys3(__NR_write, fd, data, len);

	sys1(__NR_close, fd);
	return n < 0 || n == (long)len ? n : -EIO;
}

/* In `path` the link `name`, which ends at `end`, is replaced by its target; EEXIST if it is no link. */
static long follow(int parent, char *path, const char *name, size_t begin, size_t end)
{
	char link[PATH_MAX], rest[PATH_MAX];
	long n = sys4(__NR_readlinkat, parent, name, link, sizeof link);
	size_t i = 0, to = n > 0 && link[0] == '/' ? 0 : begin;

	if (n < 0)
		return -EEXIST;
	while (path[end])
		rest[i++] = path[end++];
	rest[i] = 0;
	if (to + (size_t)n + i >= PATH_MAX)
		return -ENAMETOOLONG;
	for (long k = 0; k < n; k++)
		path[to++] = link[k];
	for (i = 0; rest[i]; i++)
		path[to++] = rest[i];
	path[to] = 0;
	return -EEXIST;
}

/* One walk along `path`; EEXIST after it met a link to what is not there yet, which is then replaced in `path`. */
static long make_along(int root, char *path, uint64_t mode, int file, uint64_t resolve)
{
	const uint64_t in_root = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | resolve;
	char prefix[PATH_MAX];
	long parent = root, fd = openat2(root, path, O_PATH, 0, in_root);
	size_t i = 0, name = 0;

	if (fd != -ENOENT)
		return fd;
	while (path[i]) {
		while (path[i] == '/')
			prefix[i] = '/', i++;
		name = i;
		while (path[i] && path[i] != '/')
			prefix[i] = path[i], i++;
		if (i == name)
			break;
		prefix[i] = 0;
		fd = openat2(root, prefix, O_PATH, 0, in_root);
		if (fd == -ENOENT) {
			if (file && !path[i]) {
				fd = openat2(parent, prefix + name, O_CREAT | O_EXCL | O_WRONLY | O_NOFOLLOW, mode, 0);
				if (fd >= 0)
					fd = sys1(__NR_close, fd);
			} else {
				fd = sys3(__NR_mkdirat, parent, prefix + name, file ? 0755 : mode);
			}
			if (fd == -EEXIST && !(resolve & RESOLVE_NO_SYMLINKS)) /* else what is new there is looked at again */
				fd = follow(parent, path, prefix + name, name, i);
			if (fd >= 0)
				fd = openat2(root, prefix, O_PATH, 0, in_root);
		}
		if (parent != root)
			sys1(__NR_close, parent);
		parent = fd;
		if (fd < 0)
			break;
	}
	return fd;
}

/* O_PATH descriptor of `path` below `root`, made where it is missing.  Every prefix is resolved by openat2 inside
 * root, so a symlink of an image leads nowhere else; what is new is made by its parent's descriptor.  The target of a
 * link to nothing is made too: /etc/resolv.conf is often one into /run. */
static long op_make(int root, const char *path, uint64_t mode, int file, uint64_t resolve)
{
	char way[PATH_MAX];
	long fd = -EEXIST;
	size_t i = 0;

	for (; path[i] && i < PATH_MAX - 1; i++)
		way[i] = path[i];
	way[i] = 0;
	if (path[i])
		return -ENAMETOOLONG;
	for (int links = 0; fd == -EEXIST && links < LINKS_AT_MOST; links++)
		fd = make_along(root, way, mode, file, resolve);
	return fd == -EEXIST ? -ELOOP : fd;
}

static long op_rtnl(int sock, const void *message, uint64_t len)
{
	struct {
		struct nlmsghdr head;
		int error;
		char rest[4096];
	} reply;
	long n = sys6(__NR_sendto, sock, (long)message, (long)len, 0, 0, 0);

	if (n < 0)
		return n;
	n = sys6(__NR_recvfrom, sock, (long)&reply, sizeof reply, 0, 0, 0);
	if (n < 0)
		return n;
	if ((size_t)n < sizeof reply.head + sizeof reply.error || reply.head.nlmsg_type != NLMSG_ERROR)
		return -EBADMSG;
	return reply.error;
}

static long op_wait(int sync)
{
	char go;
	long n = sys3(__NR_read, sync, &go, 1);

	return n == 0 ? -EPIPE : n < 0 ? n : 0;
}

static long op_sendfd(int sock, int fd, void *text, uint64_t len)
{
	struct {
		uint64_t len;
		int level, type, fd, pad;
	} control = { 16 + sizeof(int), 1 /* SOL_SOCKET */, 1 /* SCM_RIGHTS */, fd, 0 };
	struct {
		void *base;
		uint64_t len;
	} iov = { text, len };
	struct {
		void *name;
		uint64_t namelen;
		void *iov;
		uint64_t iovlen;
		void *control;
		uint64_t controllen;
		uint64_t flags;
	} message = { 0, 0, &iov, 1, &control, sizeof control, 0 };
	long n = sys3(__NR_sendmsg, sock, &message, 0);

	return n < 0 ? n : 0;
}

/* As execvp(3): the first path that can be executed; EACCES wins over ENOENT in what is told afterwards. */
static long op_exec(char **paths, char **argv, char **envp)
{
	long worst = -ENOENT;

	for (; *paths; paths++) {
		long error = sys3(__NR_execve, *paths, argv, envp);

		if (error != -ENOENT && error != -ENOTDIR && error != -EACCES)
			return error;
		if (error == -EACCES)
			worst = error;
	}
	return worst;
}

/* Fails as op_exec would, without executing; a directory is not to be executed. */
static long op_find(char **paths)
{
	long worst = -ENOENT;

	for (; *paths; paths++) {
		long error = sys4(__NR_faccessat2, AT_FDCWD, *paths, 1 /* X_OK */, AT_EACCESS);

		if (error == 0) {
			error = openat2(AT_FDCWD, *paths, O_PATH | O_DIRECTORY, 0, 0);
			if (error < 0)
				return 0;
			sys1(__NR_close, error);
			error = -EACCES;
		}
		if (error == -EACCES)
			worst = error;
		else if (error != -ENOENT && error != -ENOTDIR) /* older than Linux 5.8, or filtered: execve itself will tell */
			return 0;
	}
	return worst;
}

/* In the child, on the parent's stack, which sleeps until it executes (see spawn.c). */
__attribute__((noinline, noreturn)) static void run_child(const struct program *p, char **argv, char **envp, const int *fds,
							  volatile long *failed)
{
	uint64_t none = 0, action[4] = { 0 };
	long error = 0;

	for (int sig = 1; sig <= 64; sig++)
		sys4(__NR_rt_sigaction, sig, action, 0, 8);
	sys3(__NR_lseek, fds[0], 0, 0); /* the same file is several programs' input */
	for (int i = 0; i < 3 && error >= 0; i++)
		error = sys3(__NR_dup3, fds[i], i, 0);
	/* A filter that is older than close_range may refuse it; then what is not close-on-exec is closed one by one. */
	if (error >= 0 && sys3(__NR_close_range, 3, ~0u, 0) < 0)
		for (int fd = 3; fd < CLOSE_AT_MOST; fd++)
			sys1(__NR_close, fd);
	if (error >= 0 && p->cwd)
		error = sys1(__NR_chdir, p->cwd);
	sys4(__NR_rt_sigprocmask, 2 /* SIG_SETMASK */, &none, 0, sizeof none);
	if (error >= 0)
		error = sys3(__NR_execve, p->path, argv, envp);
	*failed = error;
	for (;;)
		sys1(__NR_exit_group, 127);
}

/* Whether the process has ended in time. */
static int ended(long pid, uint64_t timeout_ms)
{
	struct {
		int fd;
		short events, got;
	} wanted = { (int)sys2(__NR_pidfd_open, pid, 0), 1 /* POLLIN */, 0 };
	uint64_t now = now_ns(), end = now + timeout_ms * 1000000u;
	long n = -EINTR;

	if (wanted.fd < 0)
		return 1;
	while (n == -EINTR && now < end) {
		struct __kernel_timespec left = { (int64_t)((end - now) / 1000000000u), (int64_t)((end - now) % 1000000000u) };

		n = sys5(__NR_ppoll, &wanted, 1, &left, 0, 0);
		now = now_ns();
	}
	sys1(__NR_close, wanted.fd);
	return n > 0;
}

/* clone, not clone3: usual system call filters refuse that one, since they can't see its flags. */
static long op_run(const struct program *p, char **argv, char **envp, int in, int out, int err)
{
	uint64_t all = ~0ull, before;
	int fds[3] = { in, out, err }, status = 0, late;
	volatile long failed = 0;
	long pid, n;

	sys4(__NR_rt_sigprocmask, 2, &all, &before, sizeof all);
	pid = sys5(__NR_clone, 0x100 | 0x4000 | 17 /* CLONE_VM | CLONE_VFORK | SIGCHLD */, 0, 0, 0, 0);
	if (pid == 0)
		run_child(p, argv, envp, fds, &failed);
	sys4(__NR_rt_sigprocmask, 2, &before, 0, sizeof before);
	if (pid < 0)
		return pid;
	late = p->timeout_ms && !ended(pid, p->timeout_ms);
	if (late)
		sys2(__NR_kill, pid, 9);
	do
		n = sys4(__NR_wait4, pid, &status, 0, 0);
	while (n == -EINTR);
	if (failed < 0 || n < 0)
		return failed < 0 ? failed : n;
	if (late)
		return -ETIMEDOUT;
	if (status & 0x7f)
		return -(PLAN_SIGNALLED + (status & 0x7f));
	return status >> 8 & 0xff ? -(PLAN_EXITED + (status >> 8 & 0xff)) : 0;
}

/* A new process in place of this one: it gets the namespaces that only a child can have (pid_namespaces(7)), and the
 * parent's parent as its parent.  It goes on when this one is gone: until then the news of it may be under way. */
static long op_clone(int sock, uint64_t flags, void *text, uint64_t len)
{
	int pidfd = -1, gone[2];
	struct clone_args args = { .flags = flags | CLONE_PARENT | CLONE_PIDFD, .pidfd = (uint64_t)&pidfd };
	long pid = sys2(__NR_pipe2, gone, O_CLOEXEC);

	if (pid < 0)
		return pid;
	pid = sys2(__NR_clone3, &args, sizeof args);
	if (pid < 0)
		return pid;
	if (!pid) {
		sys1(__NR_close, gone[1]);
		sys3(__NR_read, gone[0], &pid, 1); /* end of file */
		return sys1(__NR_close, gone[0]);
	}
	pid = op_sendfd(sock, pidfd, text, len);
	for (;;)
		sys1(__NR_exit_group, pid < 0);
}

static long op_node(int dir, const char *name, uint64_t type, uint64_t device)
{
	struct statx found;
	long error = sys5(__NR_statx, dir, name, AT_SYMLINK_NOFOLLOW, STATX_TYPE, &found);
	uint64_t number = (uint64_t)(found.stx_rdev_minor & 0xff) | (uint64_t)found.stx_rdev_major << 8 |
			  (uint64_t)(found.stx_rdev_minor & ~0xffu) << 12; /* makedev(3), as far as the kernel's 12 + 20 bits go */

	if (error < 0)
		return error;
	return (found.stx_mode & 0170000) == type && number == device ? 0 : -EEXIST;
}

static long op_fstype(int fd, uint64_t magic, uint64_t other)
{
	struct statfs found;
	long error = sys2(__NR_fstatfs, fd, &found);

	if (error < 0)
		return error;
	return ((uint64_t)found.f_type == magic) != !!other ? 0 : -EXDEV;
}

static long run_op(const struct op *op, const uint64_t *a)
{
	switch (op->kind) {
	case OP_SYSCALL:
		return op_syscall(op->nr, a);
	case OP_WRITE:
		return op_write((int)a[0], (char *)a[1], (char *)a[2], a[3], a[4], a[5]);
	case OP_MAKE:
		return op_make((int)a[0], (char *)a[1], a[2], (int)a[3], a[4]);
	case OP_RTNL:
		return op_rtnl((int)a[0], (void *)a[1], a[2]);
	case OP_WAIT:
		return op_wait((int)a[0]);
	case OP_SENDFD:
		return op_sendfd((int)a[0], (int)a[1], (void *)a[2], a[3]);
	case OP_EXEC:
		return op_exec((char **)a[0], (char **)a[1], (char **)a[2]);
	case OP_STORE:
		*(int *)((char *)a[1] + a[2]) = (int)a[0];
		return 0;
	case OP_RUN:
		return op_run((struct program *)a[0], (char **)a[1], (char **)a[2], (int)a[3], (int)a[4], (int)a[5]);
	case OP_FIND:
		return op_find((char **)a[0]);
	case OP_CLONE:
		return op_clone((int)a[0], a[1], (void *)a[2], a[3]);
	case OP_NODE:
		return op_node((int)a[0], (char *)a[1], a[2], a[3]);
	case OP_FSTYPE:
		return op_fstype((int)a[0], a[1], a[2]);
	}
	return -ENOSYS;
}

/* Turns the offsets that the relocation list names into pointers; once for each mapping of a plan. */
static void plan_relocate(struct plan *p)
{
	char *base = (char *)p;
	uint32_t *reloc = (uint32_t *)(base + p->relocs);

	for (uint32_t i = 0; i < p->nrelocs; i++)
		*(uint64_t *)(base + reloc[i]) += (uint64_t)base;
}

/* Runs the ops from `first` up to `last`; the index of the op that failed, or -1. */
static int plan_run(struct plan *p, uint32_t first, uint32_t last)
{
	struct op *ops = (struct op *)((char *)p + p->ops);
	struct result *results = (struct result *)((char *)p + p->results);
	int32_t *slot = (int32_t *)((char *)p + p->slots);
	uint64_t t = now_ns();

	for (uint32_t i = first; i < last; i++) {
		const struct op *op = &ops[i];
		volatile struct result *r = &results[i];
		uint64_t arg[6];
		int empty = 0;
		long value;

		for (int k = 0; k < 6; k++) {
			arg[k] = op->arg[k];
			if (op->slots & (1 << k)) {
				int fd = slot[op->arg[k]];

				empty |= fd == -1;
				arg[k] = (uint64_t)(int64_t)fd;
			}
		}
		r->begin_ns = t;
		if (empty) {
			r->state = OP_SKIPPED;
			r->end_ns = t;
			continue;
		}
		r->state = OP_ENTERED;
		value = run_op(op, arg);
		t = now_ns();
		r->end_ns = t;
		r->value = value;
		if (value < 0 && value >= -4095) {
			r->error = (int)-value;
			r->state = OP_FAILED;
			for (int k = 0; k < op->nok; k++)
				if (op->ok[k] == -value)
					r->state = OP_FORGIVEN;
			if (r->state == OP_FAILED)
				return p->failed = (int)i;
		} else {
			r->state = OP_DONE;
			if (op->out >= 0)
				slot[op->out] = (int)value;
		}
	}
	return -1;
}
