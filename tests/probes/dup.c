// Copies of a descriptor are one socket: flags of the file shared, closed with the last of them.
#include "probe.h"

int main(void) {
    int c, d;
    connected_pair(&c, &d);
    int e = dup(c), f = (int)MUST(dup2(c, 77)), g = (int)MUST(dup3(c, 78, O_CLOEXEC));
    show_names("original", c);
    show_names("dup", e);
    show_names("dup2", f);
    nonblocking(e);
    printf("nonblock: %d %d\n", !!(fcntl(c, F_GETFL) & O_NONBLOCK), !!(fcntl(g, F_GETFL) & O_NONBLOCK));
    printf("cloexec: %d %d\n", !!(fcntl(c, F_GETFD) & FD_CLOEXEC), !!(fcntl(g, F_GETFD) & FD_CLOEXEC));
    int on = 1, got = 0;
    socklen_t len = sizeof got;
    T(setsockopt(f, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on));
    T(getsockopt(c, IPPROTO_TCP, TCP_NODELAY, &got, &len));
    printf("nodelay %d\n", got);
    close(c);
    close(f);
    send_all(e, "by a copy", 9);
    settle(d, POLLIN);
    show_read("server", d);
    close(g);
    poll_now(d, QUIET);
    show_poll("one copy left", d);
    T(shutdown(e, SHUT_WR));
    settle(d, POLLRDHUP);
    show_poll("ended through it", d);
    close(e);

    /* Copies of a listener and of a socket not yet connected. */
    int s = listener4(), s2 = dup(s), h = tcp4(), h2 = dup(h);
    struct sockaddr_in a = v4(port_of(s));
    close(s);
    T(connect(h2, SA(a), sizeof a));
    show_names("connected through a copy", h);
    int i = TFD(accept(s2, NULL, NULL));
    send_all(h, "x", 1);
    settle(i, POLLIN);
    show_read("server", i);
    /* dup2 over a socket closes it. */
    MUST(dup2(0, h));
    MUST(dup2(0, h2));
    settle(i, POLLRDHUP);
    show_read("server", i);
    T(getsockname(h, SA(a), &len));
    T(connect(h, SA(a), sizeof a));
    return 0;
}
