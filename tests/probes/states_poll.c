// poll(), select() and epoll_wait() in every state.
// net: silent
#include "states.h"

static void select_three(int fd) {
    fd_set r, w, x;
    struct timeval now = {0};
    FD_ZERO(&r);
    FD_ZERO(&w);
    FD_ZERO(&x);
    FD_SET(fd, &r);
    FD_SET(fd, &w);
    FD_SET(fd, &x);
    select(fd + 1, &r, &w, &x, &now);
    printf(", select%s%s%s", FD_ISSET(fd, &r) ? " read" : "", FD_ISSET(fd, &w) ? " write" : "",
           FD_ISSET(fd, &x) ? " except" : "");
}

static void readiness(struct specimen *s, enum state state) {
    if (state == BOUND || state == LISTENER_SHUT)
        return; /* see states_bound_poll.c */
    struct epoll_event e = {.events = EPOLLIN | EPOLLOUT | EPOLLPRI | EPOLLRDHUP}, got = {0};
    int ep = (int)MUST(epoll_create1(0));
    struct pollfd narrow = {.fd = s->fd};
    printf("poll %s", poll_names(poll_now(s->fd, 0)));
    poll(&narrow, 1, 0);
    printf(", unasked %s", poll_names((unsigned short)narrow.revents));
    select_three(s->fd);
    MUST(epoll_ctl(ep, EPOLL_CTL_ADD, s->fd, &e));
    epoll_wait(ep, &got, 1, 0);
    printf(", epoll %s", poll_names(got.events));
    close(ep);
}

int main(void) {
    table(readiness);
    return 0;
}
