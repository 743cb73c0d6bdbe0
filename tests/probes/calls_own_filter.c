// A program's own seccomp filter: of calls that it forbids none is made in its name; what it traps comes to its
// handler of SIGSYS.
#include "probe.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <ucontext.h>

static void on_sigsys(int number, siginfo_t *info, void *context) {
    (void)number;
    ucontext_t *ucontext = context;
    ucontext->uc_mcontext.gregs[REG_RAX] = info->si_syscall == SYS_getpeername ? -EXDEV : -EPERM;
}

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))

static void install(void) {
    struct sock_filter filter[] = {
        LOAD(nr),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getpeername, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getsockopt, 0, 4),
        LOAD(args[2]),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SO_ERROR, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof filter / sizeof *filter, filter};
    MUST(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    MUST(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program));
}

static void show(int fd, int udp) {
    struct sockaddr_in a;
    for (int round = 0; round < 3; round++) {
        socklen_t length = sizeof a;
        T(getsockname(fd, SA(a), &length));
        length = sizeof a;
        T(getsockname(udp, SA(a), &length));
        int value;
        length = sizeof value;
        T(getsockopt(fd, SOL_SOCKET, SO_ERROR, &value, &length));
        T(getpeername(fd, SA(a), &length));
    }
}

int main(int count, char **words) {
    int fd = MUST(socket(AF_INET, SOCK_STREAM, 0)), udp = MUST(socket(AF_INET, SOCK_DGRAM, 0));
    struct sigaction action = {.sa_sigaction = on_sigsys, .sa_flags = SA_SIGINFO};
    MUST(sigaction(SIGSYS, &action, NULL));
    if (count > 1) {
        show(fd, udp);
        return 0;
    }
    pid_t child = MUST(fork());
    if (child == 0) {
        /* The filter comes before the first call, and stays with another program. */
        install();
        execl("/proc/self/exe", words[0], "again", NULL);
        _exit(1);
    }
    show_status("filtered from the start", child);
    show(fd, udp);
    install();
    show(fd, udp);
    return 0;
}
