// Nobody listens at a port of this host: that is known when a non-blocking connect returns, and a descriptor that epoll
// watched before has hung up.
#include "probe.h"

static void now(const char *what, int c, struct sockaddr *where, socklen_t len, int ask) {
    struct epoll_event event = {.events = EPOLLOUT};
    int ep = (int)MUST(epoll_create1(0));
    MUST(epoll_ctl(ep, EPOLL_CTL_ADD, c, &event));
    int result = connect(c, where, len);
    printf("%s: %d %s\n", what, result, errno_name(errno));
    if (ask)
        show_error(what, c);
    show_poll(what, c);
    int count = epoll_wait(ep, &event, 1, 0);
    printf("epoll: %d %s\n", count, count == 1 ? poll_names(event.events) : "");
    T(connect(c, where, len));
    close(ep);
    close(c);
}

int main(void) {
    int holder;
    struct sockaddr_in closed = v4(closed_port(&holder));
    for (int i = 0; i < 20; i++)
        now("unbound", socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), SA(closed), sizeof closed, i & 1);
    struct sockaddr_in any = v4(0);
    int bound = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    MUST(bind(bound, SA(any), sizeof any));
    now("bound", bound, SA(closed), sizeof closed, 1);
    struct sockaddr_in6 six = v6(ntohs(closed.sin_port));
    now("IPv6", socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK, 0), SA(six), sizeof six, 0);
    int blocking = tcp4();
    T(connect(blocking, SA(closed), sizeof closed));
    show_error("blocking", blocking);
    show_poll("blocking", blocking);
    T(connect(blocking, SA(closed), sizeof closed));
    return 0;
}
