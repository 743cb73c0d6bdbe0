// A signal every millisecond without SA_RESTART: whoever repeats what was interrupted gets everything right.
// Wrapped, calls that do not wait may say EINTR as well (docs/limitations.md).
#include "probe.h"

enum { ROUNDS = 150 };
static volatile sig_atomic_t caught;
static void handler(int signal) {
    (void)signal;
    caught++;
}

/* Again after EINTR. */
#define AGAIN(call) ({ long r_; do r_ = (long)(call); while (r_ == -1 && errno == EINTR); MUST(r_); })

static void connected(int fd, struct sockaddr_in *a) {
    while (connect(fd, (struct sockaddr *)a, sizeof *a) < 0 && errno != EISCONN) {
        if (errno == EALREADY) {
            struct pollfd p = {.fd = fd, .events = POLLOUT};
            AGAIN(poll(&p, 1, SOON));
        } else if (errno != EINTR) {
            printf("connect: %s\n", errno_name(errno));
            return;
        }
    }
}

int main(void) {
    struct sigaction a = {.sa_handler = handler};
    struct itimerval storm = {{0, 1000}, {0, 1000}};
    int right = 0;
    sigaction(SIGALRM, &a, NULL);
    setitimer(ITIMER_REAL, &storm, NULL);
    for (int i = 0; i < ROUNDS; i++) {
        char text[8] = "";
        int s = (int)AGAIN(socket(AF_INET, SOCK_STREAM, 0)), c = (int)AGAIN(socket(AF_INET, SOCK_STREAM, 0));
        int on = 1, value = 0, d;
        struct sockaddr_in address = v4(0);
        socklen_t len = sizeof value;
        AGAIN(setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on));
        AGAIN(bind(s, SA(address), sizeof address));
        AGAIN(listen(s, 5));
        len = sizeof address;
        AGAIN(getsockname(s, SA(address), &len));
        connected(c, &address);
        d = (int)AGAIN(accept(s, NULL, NULL));
        AGAIN(setsockopt(d, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on));
        len = sizeof value;
        AGAIN(getsockopt(d, IPPROTO_TCP, TCP_NODELAY, &value, &len));
        len = sizeof address;
        AGAIN(getpeername(d, SA(address), &len));
        AGAIN(send(c, "storm", 5, 0));
        AGAIN(shutdown(c, SHUT_WR));
        size_t got = 0;
        while (got < 5)
            got += (size_t)AGAIN(recv(d, text, 5 - got, 0));
        right += value == 1 && AGAIN(recv(d, text, 1, 0)) == 0;
        MUST(close(d));
        MUST(close(c));
        MUST(close(s));
    }
    while (caught < 50)
        pause();
    printf("right %d\n", right);
    return 0;
}
