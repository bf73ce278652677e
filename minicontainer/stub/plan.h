/* The wire format of a plan: what Python writes, the stub obeys, and both read back.
 *
 *   offset 0      struct plan            sizes, where the rest lies, the first failure
 *   .ops          struct op[nops]        one system call (or one file write) each
 *   .results      struct result[nops]    filled in by whoever runs the op
 *   ...           strings, structs and arrays that the ops point to
 *   .relocs       uint32_t[nrelocs]      offsets of the words that hold an offset and must become a pointer
 *   .slots        int32_t[nslots]        the file descriptors, by slot
 *
 * The region is a memfd that parent and stub share, so the parent reads each result as it comes.  A program of
 * host ops is the same bytes in private memory, run in the parent by the same interpreter (ops.c).
 * Nothing in here knows what a container is. */
#ifndef MINICONTAINER_PLAN_H
#define MINICONTAINER_PLAN_H

#include <stdint.h>

#define PLAN_MAGIC 0x314e4c50u /* "PLN1" */
#define PLAN_FD 3 /* where the stub finds the plan; slots tell where the other descriptors are */

enum op_kind {
	OP_SYSCALL = 1, /* nr(arg0 … arg5); slots: bit i says arg i is a slot whose descriptor is passed */
	OP_WRITE = 2,   /* openat2(slot arg0, path arg1, flags arg4, resolve arg5), write(data arg2, len arg3), close */
	OP_MAKE = 3,    /* the path arg1 below slot arg0, made where missing, mode arg2, arg3 ? file : directory; O_PATH;
			   arg4: more RESOLVE_*, openat2(2) */
	OP_RTNL = 4,    /* sendto(slot arg0, message arg1, length arg2) and read the kernel's acknowledgement */
	OP_WAIT = 5,    /* read one byte from slot arg0: the parent's go; end of file (it died) is EPIPE */
	OP_SENDFD = 6,  /* sendmsg(slot arg0, SCM_RIGHTS slot arg1, text arg2, length arg3) */
	OP_EXEC = 7,    /* execve of the first of the paths arg0 that is there, with argv arg1 and envp arg2 */
	OP_STORE = 8,   /* the descriptor of slot arg0 as an int at offset arg2 of the struct arg1 (union bpf_attr) */
	OP_RUN = 9,     /* a child runs struct program arg0 with argv arg1, envp arg2, and slots arg3 to arg5 as its 0, 1, 2 */
	OP_FIND = 10,   /* the paths arg0: fails as OP_EXEC would, if none can be executed */
	OP_CLONE = 11,  /* clone3(flags arg1): the parent sends the child's pidfd over slot arg0 with text arg2, length arg3,
			   and ends; the child, a child of the parent's parent, goes on with the next op */
	OP_NODE = 12,   /* arg1 in slot arg0 has the S_IFMT bits arg2 and is the device arg3; EEXIST if it is something else */
	OP_FSTYPE = 13, /* slot arg0 is on a file system with the magic arg1 (arg2: is on another one); else EXDEV */
};

/* Why an OP_RUN failed, beside errnos: how its program ended. */
#define PLAN_EXITED 1000   /* + exit status */
#define PLAN_SIGNALLED 1300 /* + signal */

struct program {
	uint64_t path;
	uint64_t cwd;       /* or 0 */
	uint64_t timeout_ms; /* after which it is killed (ETIMEDOUT), or 0 */
};

enum op_state {
	OP_PENDING = 0,
	OP_ENTERED = 1,  /* running now; what an exec that worked stays in */
	OP_DONE = 2,
	OP_FORGIVEN = 3, /* failed with an errno that the op names; its slot stays empty */
	OP_SKIPPED = 4,  /* a slot that it needs is empty */
	OP_FAILED = 5,
};

struct op {
	uint16_t kind;
	uint16_t nr;   /* system call number (OP_SYSCALL) */
	uint8_t slots; /* bit i: arg[i] is a slot */
	uint8_t nok;   /* how many of ok[] count */
	int16_t out;   /* slot that receives the result, or -1 */
	int32_t ok[2]; /* errnos that are no failure */
	uint64_t arg[6];
};

struct result {
	int32_t state;
	int32_t error; /* errno */
	int64_t value;
	uint64_t begin_ns; /* CLOCK_MONOTONIC */
	uint64_t end_ns;
};

struct plan {
	uint32_t magic;
	uint32_t size;
	uint32_t nops;
	uint32_t ops;
	uint32_t results;
	uint32_t nrelocs;
	uint32_t relocs;
	uint32_t nslots;
	uint32_t slots; /* int32_t[nslots]: descriptors, -1 where there is none */
	int32_t failed; /* index of the op that failed, or -1 */
};

#endif
