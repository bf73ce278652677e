/* spawn: one clone3() that gives birth to the stub.
 *
 * The child shares the parent's memory until it executes (CLONE_VM | CLONE_VFORK, as posix_spawn does): no page table
 * of the interpreter is copied, and no Python runs in the child, so threads and the GIL can't hurt it.  It uses the
 * parent's stack below this frame while the parent sleeps; all signals are blocked so that no handler of the
 * interpreter runs in it.  All it does is to put descriptors in their places and execveat() the stub. */
#include <linux/close_range.h>
#include <linux/sched.h>

struct spawn {
	uint64_t flags;   /* CLONE_NEW*, CLONE_INTO_CGROUP */
	int exec_fd;      /* what to execute */
	int cgroup_fd;    /* with CLONE_INTO_CGROUP */
	const int *fds;   /* fds[i] becomes descriptor i of the child */
	int nfds;
	char **argv;      /* also for a program that is not the stub: plain argv and envp */
	char **envp;
	int pidfd;        /* out */
	int child_errno;  /* out: why the child could not execute */
};

#define SPAWN_FIRST_FREE 300

__attribute__((noinline, noreturn)) static void spawn_child(struct spawn *s)
{
	int n = s->nfds, moved[64];
	char *none[] = { 0 };
	long error = 0;

	/* First out of the way of one another, then each to its place. */
	for (int i = 0; i < n && error >= 0; i++)
		error = moved[i] = (int)sys3(__NR_fcntl, s->fds[i], F_DUPFD_CLOEXEC, SPAWN_FIRST_FREE);
	if (error >= 0)
		error = sys3(__NR_fcntl, s->exec_fd, F_DUPFD_CLOEXEC, SPAWN_FIRST_FREE);
	int program = (int)error;
	for (int i = 0; i < n && error >= 0; i++)
		error = sys3(__NR_dup3, moved[i], i, 0);
	if (error >= 0)
		error = sys3(__NR_dup3, program, n, O_CLOEXEC);
	if (error >= 0)
		error = sys3(__NR_close_range, n + 1, ~0u, 0);
	if (error >= 0)
		error = sys5(__NR_execveat, n, "", s->argv, s->envp ? s->envp : none, AT_EMPTY_PATH);
	s->child_errno = (int)-error;
	for (;;)
		sys1(__NR_exit_group, 127);
}

/* The child's pid, or -errno of clone3; child_errno tells of an execveat that failed. */
static long mc_spawn(struct spawn *s)
{
	uint64_t all = ~0ull, before;
	struct clone_args args = {
		.flags = s->flags | CLONE_VM | CLONE_VFORK | CLONE_PIDFD,
		.pidfd = (uint64_t)&s->pidfd,
		.exit_signal = 17 /* SIGCHLD */,
		.cgroup = (uint64_t)s->cgroup_fd,
	};
	long pid;

	if (s->nfds > 64)
		return -E2BIG;
	s->pidfd = -1;
	s->child_errno = 0;
	sys4(__NR_rt_sigprocmask, 2 /* SIG_SETMASK */, &all, &before, sizeof all);
	pid = sys2(__NR_clone3, &args, sizeof args);
	if (pid == 0)
		spawn_child(s);
	sys4(__NR_rt_sigprocmask, 2, &before, 0, sizeof before);
	return pid;
}
