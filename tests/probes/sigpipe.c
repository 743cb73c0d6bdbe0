// EPIPE after one's own shutdown: SIGPIPE from every call that writes, unless MSG_NOSIGNAL says no.
#include "probe.h"
#include <sys/sendfile.h>

static volatile sig_atomic_t pipes;
static void count(int signal) {
    (void)signal;
    pipes++;
}

int main(void) {
    int c, d, in[2], file = memfd_create("data", 0);
    char text[8] = "data";
    struct iovec v = {text, 4};
    struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1};
    struct mmsghdr mm = {.msg_hdr = m};
    signal(SIGPIPE, count);
    connected_pair(&c, &d);
    MUST(pipe(in));
    send_all(in[1], "data", 4);
    send_all(file, "data", 4);
    T(shutdown(c, SHUT_WR));
    T(write(c, text, 4));
    printf("signals %d\n", pipes);
    T(writev(c, &v, 1));
    printf("signals %d\n", pipes);
    T(send(c, text, 4, 0));
    printf("signals %d\n", pipes);
    T(send(c, text, 4, MSG_NOSIGNAL));
    printf("signals %d\n", pipes);
    T(sendmsg(c, &m, 0));
    printf("signals %d\n", pipes);
    T(sendmsg(c, &m, MSG_NOSIGNAL));
    printf("signals %d\n", pipes);
    T(sendmmsg(c, &mm, 1, 0));
    printf("signals %d\n", pipes);
    off_t offset = 0;
    T(sendfile(c, file, &offset, 4));
    printf("signals %d\n", pipes);
    T(splice(in[0], NULL, c, NULL, 4, 0));
    printf("signals %d\n", pipes);
    show_error("client", c);
    /* Blocked, it stays pending. */
    sigset_t set, pending;
    sigemptyset(&set);
    sigaddset(&set, SIGPIPE);
    sigprocmask(SIG_BLOCK, &set, NULL);
    T(write(c, text, 4));
    sigpending(&pending);
    printf("pending %d, signals %d\n", sigismember(&pending, SIGPIPE), pipes);
    return 0;
}
