// Edge-triggered EPOLLOUT: an edge each time a full connection has room again.
#include "probe.h"

static char block[1 << 16];

static size_t fill(int fd) {
    size_t sent = 0;
    for (ssize_t n; (n = write(fd, block, sizeof block)) > 0;)
        sent += (size_t)n;
    return sent;
}

int main(void) {
    int c, d, rounds = 0;
    connected_pair(&c, &d);
    nonblocking(c);
    nonblocking(d);
    int ep = (int)MUST(epoll_create1(0));
    struct epoll_event e = {.events = EPOLLOUT | EPOLLET}, got = {0};
    T(epoll_ctl(ep, EPOLL_CTL_ADD, c, &e));
    T(epoll_wait(ep, &got, 1, SOON));
    size_t sent = fill(c), read_back = 0;
    for (; rounds < 30; rounds++) {
        /* Read until the writer's edge comes. */
        int edge = 0;
        for (int i = 0; i < SOON && !edge; i++) {
            for (ssize_t n; (n = read(d, block, sizeof block)) > 0;)
                read_back += (size_t)n;
            edge = epoll_wait(ep, &got, 1, 1) == 1;
        }
        if (!edge || got.events != EPOLLOUT)
            break;
        sent += fill(c);
    }
    printf("rounds %d\n", rounds);
    MUST(shutdown(c, SHUT_WR));
    struct pollfd p = {.fd = d, .events = POLLIN};
    for (ssize_t n = 1; n && poll(&p, 1, SOON) == 1;) {
        n = read(d, block, sizeof block);
        read_back += n > 0 ? (size_t)n : 0;
    }
    printf("all read: %d\n", read_back == sent);
    return 0;
}
