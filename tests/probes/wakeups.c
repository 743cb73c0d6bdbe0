// Thousands of rounds with select, poll and epoll: the wait ends when data is there, and not when there is none.
#include "probe.h"

enum { ROUNDS = 1000 };
static int ep;

static int wait_select(int fd, int ms) {
    fd_set r;
    struct timeval t = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};
    FD_ZERO(&r);
    FD_SET(fd, &r);
    return select(fd + 1, &r, NULL, NULL, &t);
}

static int wait_poll(int fd, int ms) {
    struct pollfd p = {.fd = fd, .events = POLLIN};
    return poll(&p, 1, ms);
}

static int wait_epoll(int fd, int ms) {
    struct epoll_event e;
    (void)fd;
    return epoll_wait(ep, &e, 1, ms);
}

static void rounds(const char *label, int (*wait)(int, int), unsigned mode) {
    int c, d, lost = 0, invented = 0, wrong = 0;
    connected_pair(&c, &d);
    ep = (int)MUST(epoll_create1(0));
    struct epoll_event e = {.events = EPOLLIN | mode};
    MUST(epoll_ctl(ep, EPOLL_CTL_ADD, c, &e));
    pid_t child = fork();
    if (child == 0) {
        char byte;
        close(c);
        while (read(d, &byte, 1) == 1)
            send_all(d, &byte, 1);
        _exit(0);
    }
    close(d);
    for (int i = 0; i < ROUNDS; i++) {
        char sent = (char)i, back = 0;
        invented += wait(c, 0) != 0;
        send_all(c, &sent, 1);
        lost += wait(c, SOON) != 1;
        wrong += recv(c, &back, 1, MSG_DONTWAIT) != 1 || back != sent;
        if (mode & EPOLLONESHOT)
            MUST(epoll_ctl(ep, EPOLL_CTL_MOD, c, &e));
    }
    printf("%s: lost %d, invented %d, wrong %d\n", label, lost, invented, wrong);
    close(c);
    close(ep);
    show_status("echo", child);
}

int main(void) {
    rounds("select", wait_select, 0);
    rounds("poll", wait_poll, 0);
    rounds("level", wait_epoll, 0);
    rounds("edge", wait_epoll, EPOLLET);
    rounds("one-shot", wait_epoll, EPOLLONESHOT);
    return 0;
}
