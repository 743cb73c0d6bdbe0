// Edge-triggered epoll: once per arrival, no edge lost over many rounds.
#include "probe.h"

int main(void) {
    int c, d;
    connected_pair(&c, &d);
    nonblocking(d);
    int ep = (int)MUST(epoll_create1(0));
    struct epoll_event e = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET}, got = {0};
    T(epoll_ctl(ep, EPOLL_CTL_ADD, d, &e));
    T(epoll_wait(ep, &got, 1, SOON));
    printf("at once: %s\n", poll_names(got.events));
    T(epoll_wait(ep, &got, 1, QUIET));
    send_all(c, "ab", 2);
    T(epoll_wait(ep, &got, 1, SOON));
    printf("in: %d\n", !!(got.events & EPOLLIN));
    T(epoll_wait(ep, &got, 1, QUIET));
    /* Not drained: the next arrival is an edge again. */
    send_all(c, "c", 1);
    T(epoll_wait(ep, &got, 1, SOON));
    show_read("server", d);

    int rounds = 0;
    for (; rounds < 2000; rounds++) {
        char byte;
        send_all(c, "x", 1);
        do {
            got.events = 0;
            if (epoll_wait(ep, &got, 1, SOON) != 1)
                break;
        } while (!(got.events & EPOLLIN));
        if (read(d, &byte, 1) != 1 || read(d, &byte, 1) != -1 || errno != EAGAIN)
            break;
    }
    printf("rounds: %d\n", rounds);
    T(shutdown(c, SHUT_WR));
    do
        MUST(epoll_wait(ep, &got, 1, SOON));
    while (!(got.events & EPOLLRDHUP));
    printf("ended: %s\n", poll_names(got.events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP)));
    show_read("server", d);
    T(epoll_wait(ep, &got, 1, QUIET));
    return 0;
}
