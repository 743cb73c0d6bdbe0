// Level-triggered epoll: reported as long as it holds; modify and delete; EPOLLONESHOT.
#include "probe.h"

static int ep;

static void show(const char *label, int ms) {
    struct epoll_event e[4];
    int n = epoll_wait(ep, e, 4, ms);
    printf("%s: %d", label, n);
    for (int i = 0; i < n; i++)
        printf(" [%llu %s]", (unsigned long long)e[i].data.u64, poll_names(e[i].events));
    printf("\n");
}

static struct epoll_event event(unsigned bits, int id) { return (struct epoll_event){.events = bits, .data.u64 = (unsigned)id}; }

int main(void) {
    int c, d;
    connected_pair(&c, &d);
    ep = (int)MUST(epoll_create1(EPOLL_CLOEXEC));
    struct epoll_event e = event(EPOLLIN | EPOLLRDHUP, 1);
    T(epoll_ctl(ep, EPOLL_CTL_ADD, d, &e));
    T(epoll_ctl(ep, EPOLL_CTL_ADD, d, &e));
    show("nothing", QUIET);
    send_all(c, "abc", 3);
    show("data", SOON);
    show("data still", SOON);
    char byte;
    MUST(read(d, &byte, 1));
    show("two left", SOON);
    show_read("server", d);
    show("none left", QUIET);
    e = event(EPOLLIN | EPOLLOUT, 2);
    T(epoll_ctl(ep, EPOLL_CTL_MOD, d, &e));
    show("writable", SOON);
    e = event(EPOLLIN | EPOLLONESHOT, 3);
    T(epoll_ctl(ep, EPOLL_CTL_MOD, d, &e));
    send_all(c, "x", 1);
    show("oneshot", SOON);
    show("oneshot spent", QUIET);
    T(epoll_ctl(ep, EPOLL_CTL_MOD, d, &e));
    show("oneshot armed", SOON);
    show_read("server", d);
    e = event(EPOLLIN | EPOLLRDHUP, 4);
    T(epoll_ctl(ep, EPOLL_CTL_MOD, d, &e));
    T(shutdown(c, SHUT_WR));
    settle(d, POLLRDHUP);
    show("peer ended", SOON);
    T(epoll_ctl(ep, EPOLL_CTL_DEL, d, NULL));
    show("deleted", QUIET);
    T(epoll_ctl(ep, EPOLL_CTL_DEL, d, NULL));
    return 0;
}
