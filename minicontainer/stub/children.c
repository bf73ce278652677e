/* Ops that execute a program, in place of this process or in a child, and the one by which a child goes on with the plan.
 *
 * A part of ops.c, which includes it. */
#include <linux/fcntl.h>
#include <linux/sched.h>

#ifndef AT_EACCESS
#define AT_EACCESS 0x200
#endif

#define CLOSE_AT_MOST 1024

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
