// A listener in epoll: readable while connections wait, not once another process has taken the last.
#include "probe.h"

static int ep;
static void show(const char *label, int ms) {
    struct epoll_event e = {0};
    int n = epoll_wait(ep, &e, 1, ms);
    printf("%s: %d %s\n", label, n, n == 1 ? poll_names(e.events) : "");
}

int main(void) {
    int s = listener4(), c[3];
    struct epoll_event e = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP};
    ep = (int)MUST(epoll_create1(0));
    T(epoll_ctl(ep, EPOLL_CTL_ADD, s, &e));
    show("empty", QUIET);
    for (int i = 0; i < 3; i++)
        c[i] = client4(s);
    show("three wait", SOON);
    show("still", SOON);
    pid_t child = fork();
    if (child == 0) {
        for (int i = 0; i < 3; i++)
            MUST(accept(s, NULL, NULL));
        _exit(0);
    }
    show_status("taken by a child", child);
    show("none waits", QUIET);
    /* One that comes and goes is still there to be accepted. */
    close(client4(s));
    show("gone again", SOON);
    int d = TFD(accept(s, NULL, NULL));
    settle(d, POLLIN);
    show_read("gone", d);
    show("none waits", QUIET);
    e.events |= EPOLLET;
    T(epoll_ctl(ep, EPOLL_CTL_MOD, s, &e));
    int edges = 0;
    for (int i = 0; i < 100; i++) {
        int f = client4(s);
        edges += epoll_wait(ep, &e, 1, SOON) == 1 && e.events == EPOLLIN;
        int g = accept(s, NULL, NULL);
        close(f);
        close(g);
    }
    printf("edges %d\n", edges);
    for (int i = 0; i < 3; i++)
        close(c[i]);
    return 0;
}
