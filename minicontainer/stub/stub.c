/* The first process of a container: an interpreter of ops, and nothing else.
 *
 * It is executed from a sealed memfd, so /proc/self/exe never leads to a file of the host (CVE-2019-5736).  It maps
 * the plan that its parent shares with it, runs the ops, the last of which is the execve of the user's program.
 * build: gcc -O2 -static -nostdlib -ffreestanding -fno-stack-protector -DSYS_START (minicontainer/kernel/build.py) */
#define SYS_START
#include "ops.c"

#include <linux/mman.h>
#include <linux/prctl.h>

#define PROT_READ_WRITE 3

int start(long argc, char **argv, char **envp)
{
	long size = sys3(__NR_lseek, PLAN_FD, 0, 2 /* SEEK_END */);
	struct plan *p = (struct plan *)sys6(__NR_mmap, 0, size, PROT_READ_WRITE, MAP_SHARED, PLAN_FD, 0);
	uint64_t action[4] = { 0 };

	(void)argc, (void)argv, (void)envp;
	if ((long)p < 0 && (long)p > -4096)
		return 120;
	if (size < (long)sizeof *p || p->magic != PLAN_MAGIC || p->size > size)
		return 121;
	/* The kernel names a program from a descriptor by its number; say who we are in ps(1). */
	sys2(__NR_prctl, PR_SET_NAME, "minicontainer");
	/* Python ignores SIGPIPE and SIGXFSZ, and exec keeps what is ignored: a container starts with none ignored. */
	for (int sig = 1; sig <= 64; sig++)
		sys4(__NR_rt_sigaction, sig, action, 0, 8);
	plan_relocate(p);
	plan_run(p, 0, p->nops);
	return 122; /* the plan tells the parent which op failed */
}
