/* The interpreter of ops: runs a plan's ops one after the other and notes result and time of each.
 *
 * It is compiled twice from this one file: into the stub, which runs the container's half of a plan as the
 * container's first process, and into the cffi extension, which runs the host's half in the caller's process.
 * Ops that look up or make paths are in paths.c, those that execute or make processes in children.c. */
#include "sys.h"
#include "plan.h"

#include <linux/netlink.h>
#include <linux/stat.h>
#include <linux/time_types.h>
#include <asm/statfs.h>

#define TRIES_AT_MOST 128

static uint64_t now_ns(void)
{
	struct __kernel_timespec t;

	sys2(__NR_clock_gettime, 1 /* CLOCK_MONOTONIC */, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
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

#include "paths.c"
#include "children.c"

/* openat2 below a directory says EAGAIN if something was renamed or mounted, anywhere, while it passed a ".." */
static long op_syscall(long nr, const uint64_t *a)
{
	long n = -EAGAIN;

	for (int i = 0; n == -EAGAIN && i < (nr == __NR_openat2 ? TRIES_AT_MOST : 1); i++)
		n = sys6(nr, (long)a[0], (long)a[1], (long)a[2], (long)a[3], (long)a[4], (long)a[5]);
	return n;
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

static long op_node(int dir, const char *name, uint64_t type, uint64_t device)
{
	struct statx found;
	long error = sys5(__NR_statx, dir, name, AT_SYMLINK_NOFOLLOW, STATX_TYPE, &found);
	uint64_t number;

	if (error < 0)
		return error;
	number = (uint64_t)(found.stx_rdev_minor & 0xff) | (uint64_t)found.stx_rdev_major << 8 |
		 (uint64_t)(found.stx_rdev_minor & ~0xffu) << 12; /* makedev(3), as far as the kernel's 12 + 20 bits go */
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
