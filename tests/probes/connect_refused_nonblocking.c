// A refused non-blocking connect: readiness, SO_ERROR once, then none.
#include "probe.h"

int main(void) {
    int holder;
    struct sockaddr_in closed = v4(closed_port(&holder));

    int c = refused(&closed);
    settle(c, POLLERR | POLLHUP);
    show_poll("poll", c);
    show_error("first", c);
    show_error("second", c);
    show_poll("error taken", c);

    int f = refused(&closed);
    settle(f, POLLERR);
    struct sockaddr_in again = closed;
    T(connect(f, SA(again), sizeof again));
    show_error("after connect", f);

    int g = refused(&closed);
    struct epoll_event event = {.events = EPOLLOUT | EPOLLIN | EPOLLRDHUP | EPOLLET};
    int ep = (int)MUST(epoll_create1(0));
    T(epoll_ctl(ep, EPOLL_CTL_ADD, g, &event));
    memset(&event, 0, sizeof event);
    settle(g, POLLHUP);
    T(epoll_wait(ep, &event, 1, SOON));
    printf("epoll: %s\n", poll_names(event.events));
    return 0;
}
