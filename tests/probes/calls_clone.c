// clone with a stack of its own, fork and vfork through a site for any number, after it has made socket calls.
#include "probe.h"
#include <sched.h>

long any(long number, long a, long b, long c, long d, long e);
/* clone(flags, stack): the child calls the function that lies on its stack. */
long any_clone(long number, long flags, void *stack);

__asm__(".text\n.p2align 6\nany:\n"
        "mov %rdi, %rax\nmov %rsi, %rdi\nmov %rdx, %rsi\nmov %rcx, %rdx\nmov %r8, %r10\nmov %r9, %r8\n"
        "syscall\ncmp $-4096, %rax\nret\n"
        ".p2align 6\nany_clone:\n"
        "mov %rdi, %rax\nmov %rsi, %rdi\nmov %rdx, %rsi\nxor %edx, %edx\nxor %r10d, %r10d\nxor %r8d, %r8d\n"
        "syscall\ntest %rax, %rax\njz 1f\nret\n"
        "1: xor %ebp, %ebp\npop %rax\ncall *%rax\nhlt\n");

static int fd;

static void in_child(void) {
    struct sockaddr_in a;
    socklen_t length = sizeof a;
    _exit(any(SYS_getsockname, fd, (long)&a, (long)&length, 0, 0) == 0 && length == sizeof a ? 42 : 1);
}

int main(void) {
    fd = MUST(socket(AF_INET, SOCK_STREAM, 0));
    struct sockaddr_in a;
    static char stack[65536] __attribute__((aligned(16)));
    void **top = (void **)(stack + sizeof stack - 64);
    for (int round = 0; round < 3; round++) {
        socklen_t length = sizeof a;
        printf("%ld %u\n", any(SYS_getsockname, fd, (long)&a, (long)&length, 0, 0), length);
        /* The site of any_clone itself: its third argument is no stack here, and the length. */
        any_clone(SYS_getsockname, fd, &a);
        *top = in_child;
        pid_t child = any_clone(SYS_clone, CLONE_VM | SIGCHLD, top);
        show_status("clone with a stack", child);
        child = any(SYS_fork, 0, 0, 0, 0, 0);
        if (child == 0)
            in_child();
        show_status("fork", child);
        printf("%ld\n", any(SYS_getpid, 0, 0, 0, 0, 0) - getpid());
    }
    return 0;
}
