// A call through a null pointer, or to a small address, ends the program with SIGSEGV; so does a read.
#include "probe.h"

static void jump(uintptr_t to) {
    pid_t child = MUST(fork());
    if (child == 0) {
        signal(SIGSEGV, SIG_DFL);
        /* As a patched call would: the number of a system call in rax. */
        __asm__ volatile("call *%%rax" : : "a"(to) : "memory", "rcx", "r11", "cc");
        _exit(0);
    }
    char label[32];
    snprintf(label, sizeof label, "a call of %lu", (unsigned long)to);
    show_status(label, child);
}

static void read_null(void) {
    pid_t child = MUST(fork());
    if (child == 0)
        _exit(*(volatile char *)(uintptr_t)(getppid() == 0));
    show_status("a read", child);
}

int main(void) {
    int fd = MUST(socket(AF_INET, SOCK_STREAM, 0));
    show_names("socket", fd);
    show_names("again", fd);
    read_null();
    /* A site for any number. */
    struct sockaddr_in a;
    for (int round = 0; round < 3; round++) {
        socklen_t length = sizeof a;
        T(syscall(SYS_getsockname, fd, &a, &length));
    }
    for (uintptr_t to = 0; to < 60; to += 10)
        jump(to);
    jump(SYS_getsockname);
    jump(435);
    jump(1000);
    T(syscall(600));
    T(syscall(4000));
    return 0;
}
