// An epoll registration outlives a failed non-blocking connect and reports the next attempt.
// gap: epoll after a failed non-blocking connect
#include "probe.h"

int main(void) {
    int holder, s = listener4(), ep = (int)MUST(epoll_create1(0));
    struct sockaddr_in closed = v4(closed_port(&holder)), open = v4(port_of(s));
    int c = refused(&closed);
    struct epoll_event e = {.events = EPOLLOUT}, got = {0};
    T(epoll_ctl(ep, EPOLL_CTL_ADD, c, &e));
    settle(c, POLLERR);
    T(epoll_wait(ep, &got, 1, SOON));
    connect(c, SA(closed), sizeof closed);
    T(connect(c, SA(open), sizeof open));
    settle(c, POLLOUT);
    got.events = 0;
    T(epoll_wait(ep, &got, 1, 200));
    printf("events %s\n", poll_names(got.events));
    return 0;
}
