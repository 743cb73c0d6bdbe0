// What level and edge epoll say as a connection ends step by step.
#include "probe.h"

static int level, edge;

static void watch(int fd) {
    struct epoll_event l = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP}, e = {.events = l.events | EPOLLET};
    level = (int)MUST(epoll_create1(0));
    edge = (int)MUST(epoll_create1(0));
    MUST(epoll_ctl(level, EPOLL_CTL_ADD, fd, &l));
    MUST(epoll_ctl(edge, EPOLL_CTL_ADD, fd, &e));
}

static void show(const char *label, int fd, unsigned until) {
    struct epoll_event got = {0};
    settle(fd, until);
    int n = epoll_wait(level, &got, 1, 0);
    printf("%s: level %d %s", label, n, n == 1 ? poll_names(got.events) : "");
    n = epoll_wait(edge, &got, 1, 0);
    printf(", edge %d %s", n, n == 1 ? poll_names(got.events) : "");
    n = epoll_wait(edge, &got, 1, 0);
    printf(", again %d\n", n);
}

int main(void) {
    int c, d;
    struct linger hard = {.l_onoff = 1};
    printf("-- the peer ends, then we\n");
    connected_pair(&c, &d);
    watch(d);
    show("connected", d, POLLOUT);
    shutdown(c, SHUT_WR);
    show("peer ended", d, POLLRDHUP);
    shutdown(d, SHUT_WR);
    show("both ended", d, POLLHUP);
    printf("-- we end, then the peer\n");
    connected_pair(&c, &d);
    watch(d);
    show("connected", d, POLLOUT);
    shutdown(d, SHUT_WR);
    settle(c, POLLRDHUP);
    close(c);
    show("both ended", d, POLLHUP);
    printf("-- reset\n");
    connected_pair(&c, &d);
    watch(d);
    show("connected", d, POLLOUT);
    MUST(setsockopt(c, SOL_SOCKET, SO_LINGER, &hard, sizeof hard));
    close(c);
    show("reset", d, POLLERR | POLLHUP);
    show_error("reset", d);
    show("error taken", d, POLLHUP);
    printf("-- our own shutdown\n");
    connected_pair(&c, &d);
    watch(d);
    show("connected", d, POLLOUT);
    shutdown(d, SHUT_RD);
    show("reading", d, POLLRDHUP);
    shutdown(d, SHUT_RDWR);
    show("both", d, POLLHUP);
    return 0;
}
