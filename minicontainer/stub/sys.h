/* Raw system calls for programs without a C library, and the same for code that also lives in one.
 *
 * sysN(number, …) returns what the kernel returned: a value, or -errno.  Nothing here allocates, reads a
 * thread-local or needs relocation, so the stub stays a few KiB, static, and starts in microseconds.
 * Calling conventions: syscall(2), "Architecture calling conventions". */
#ifndef MINICONTAINER_SYS_H
#define MINICONTAINER_SYS_H

#include <asm/unistd.h>
#include <linux/errno.h>
#include <stddef.h>
#include <stdint.h>

static inline long sys6(long nr, long a, long b, long c, long d, long e, long f)
{
#if defined(__x86_64__)
	long ret;
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	__asm__ volatile("syscall" : "=a"(ret) : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return ret;
#elif defined(__aarch64__)
	register long x8 __asm__("x8") = nr;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;
	register long x4 __asm__("x4") = e;
	register long x5 __asm__("x5") = f;
	__asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
	return x0;
#else
#error "minicontainer knows the system call convention of x86_64 and aarch64"
#endif
}

#define sys0(n) sys6(n, 0, 0, 0, 0, 0, 0)
#define sys1(n, a) sys6(n, (long)(a), 0, 0, 0, 0, 0)
#define sys2(n, a, b) sys6(n, (long)(a), (long)(b), 0, 0, 0, 0)
#define sys3(n, a, b, c) sys6(n, (long)(a), (long)(b), (long)(c), 0, 0, 0)
#define sys4(n, a, b, c, d) sys6(n, (long)(a), (long)(b), (long)(c), (long)(d), 0, 0)
#define sys5(n, a, b, c, d, e) sys6(n, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), 0)

#ifdef SYS_START
/* The entry point of a program without a C library: `int start(long argc, char **argv, char **envp)` is its main. */
int start(long argc, char **argv, char **envp);

__attribute__((noreturn, used)) static void sys_enter(long *stack)
{
	long argc = stack[0];
	char **argv = (char **)(stack + 1);
	int status = start(argc, argv, argv + argc + 1);

	for (;;)
		sys1(__NR_exit_group, status);
}

#if defined(__x86_64__)
__asm__(".globl _start\n_start:\n\txor %ebp,%ebp\n\tmov %rsp,%rdi\n\tand $-16,%rsp\n\tcall sys_enter\n");
#elif defined(__aarch64__)
__asm__(".globl _start\n_start:\n\tmov x29,#0\n\tmov x0,sp\n\tb sys_enter\n");
#endif

/* gcc may emit calls to these even with -ffreestanding (GCC manual, "Standards"). */
__attribute__((used)) void *memcpy(void *dst, const void *src, size_t n)
{
	char *d = dst;
	const char *s = src;

	while (n--)
		*d++ = *s++;
	return dst;
}

__attribute__((used)) void *memset(void *dst, int c, size_t n)
{
	char *d = dst;

	while (n--)
		*d++ = (char)c;
	return dst;
}
#endif
#endif
