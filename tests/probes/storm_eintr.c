// A signal every millisecond without SA_RESTART: only calls that wait may say EINTR.
// gap: EINTR without SA_RESTART
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
    if (connect(fd, (struct sockaddr *)a, sizeof *a) == 0)
        return;
    if (errno != EINTR)
        printf("connect: %s\n", errno_name(errno));
    struct pollfd p = {.fd = fd, .events = POLLOUT};
    AGAIN(poll(&p, 1, SOON));
    int e = so_error(fd);
    if (e)
        printf("SO_ERROR %d %s, errno %s\n", e, errno_name(e), errno_name(errno));
}

int main(void) {
    struct sigaction a = {.sa_handler = handler};
    struct itimerval storm = {{0, 1000}, {0, 1000}};
    int right = 0;
    sigaction(SIGALRM, &a, NULL);
    setitimer(ITIMER_REAL, &storm, NULL);
    for (int i = 0; i < ROUNDS; i++) {
        char text[8] = "";
        int s = tcp4(), on = 1, value = 0, d, c = tcp4();
        struct sockaddr_in address = v4(0);
        socklen_t len = sizeof value;
        MUST(setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on));
        MUST(bind(s, SA(address), sizeof address));
        MUST(listen(s, 5));
        address = v4(port_of(s));
        connected(c, &address);
        d = (int)AGAIN(accept(s, NULL, NULL));
        MUST(setsockopt(d, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on));
        MUST(getsockopt(d, IPPROTO_TCP, TCP_NODELAY, &value, &len));
        len = sizeof address;
        MUST(getpeername(d, SA(address), &len));
        MUST(send(c, "storm", 5, 0));
        MUST(shutdown(c, SHUT_WR));
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
