// Copies of a socket in one epoll, a copy of the epoll, and an epoll within an epoll.
#include "probe.h"

static void show(const char *label, int ep) {
    struct epoll_event e[8];
    int n = epoll_wait(ep, e, 8, SOON), seen[8] = {0};
    for (int i = 0; i < n; i++)
        seen[e[i].data.u32 & 7] = (int)e[i].events;
    printf("%s: %d", label, n);
    for (int i = 0; i < 8; i++)
        if (seen[i])
            printf(" [%d %s]", i, poll_names((unsigned)seen[i]));
    printf("\n");
}

int main(void) {
    int c, d;
    connected_pair(&c, &d);
    int copy = dup(d), ep = (int)MUST(epoll_create1(0)), ep2 = dup(ep), outer = (int)MUST(epoll_create1(0));
    struct epoll_event one = {.events = EPOLLIN, .data.u32 = 1}, two = {.events = EPOLLIN | EPOLLOUT, .data.u32 = 2};
    struct epoll_event inner = {.events = EPOLLIN, .data.u32 = 3};
    T(epoll_ctl(ep, EPOLL_CTL_ADD, d, &one));
    T(epoll_ctl(ep2, EPOLL_CTL_ADD, copy, &two));
    T(epoll_ctl(ep, EPOLL_CTL_ADD, copy, &two));
    T(epoll_ctl(outer, EPOLL_CTL_ADD, ep2, &inner));
    show("at first", ep);
    send_all(c, "x", 1);
    settle(d, POLLIN);
    show("data", ep2);
    show("outer", outer);
    struct pollfd p = {.fd = outer, .events = POLLIN};
    T(poll(&p, 1, SOON));
    /* The registration of a closed number lives as long as the socket does. */
    T(close(d));
    show("one closed", ep);
    T(epoll_ctl(ep, EPOLL_CTL_DEL, d, NULL));
    T(epoll_ctl(ep, EPOLL_CTL_MOD, copy, &two));
    T(close(copy));
    T(epoll_wait(ep, &one, 1, QUIET));
    T(poll(&p, 1, 0));
    T(close(ep));
    T(epoll_wait(ep2, &one, 1, 0));
    return 0;
}
