// Each call of a server's and a client's life in another process.
#include "probe.h"

/* Run one step in a child, so that the next is the parent's or another child's. */
#define STEP(label, ...)                                                                                               \
    do {                                                                                                               \
        pid_t pid_ = fork();                                                                                           \
        if (pid_ == 0) {                                                                                               \
            __VA_ARGS__;                                                                                               \
            _exit(0);                                                                                                  \
        }                                                                                                              \
        show_status(label, pid_);                                                                                      \
    } while (0)

int main(void) {
    int s = tcp4(), c = tcp4(), on = 1;
    struct sockaddr_in a = v4(0);
    STEP("setsockopt", T(setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on)));
    STEP("bind", T(bind(s, SA(a), sizeof a)));
    STEP("listen", T(listen(s, 5)));
    a = v4(port_of(s));
    STEP("connect", T(connect(c, SA(a), sizeof a)));
    show_names("client", c);
    STEP("send", T(send(c, "early", 5, 0)));
    int d = TFD(accept(s, NULL, NULL));
    STEP("close the listener", close(s));
    STEP("recv", settle(d, POLLIN); show_read("server", d));
    STEP("getsockopt", socklen_t len = sizeof on; T(getsockopt(d, IPPROTO_TCP, TCP_NODELAY, &on, &len)));
    STEP("shutdown", T(shutdown(c, SHUT_WR)));
    settle(d, POLLRDHUP);
    show_read("server", d);
    STEP("answer", send_all(d, "answer", 6));
    close(d);
    settle(c, POLLIN | POLLRDHUP);
    STEP("last read", show_read("client", c); show_read("client", c));
    return 0;
}
