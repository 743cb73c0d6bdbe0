// Several processes wait for one listener in epolls of their own, with EPOLLEXCLUSIVE: each client is served once.
#include "probe.h"

enum { WORKERS = 3, CLIENTS = 30 };

static void worker(int s) {
    int ep = epoll_create1(0);
    struct epoll_event e = {.events = EPOLLIN | EPOLLEXCLUSIVE}, got;
    MUST(epoll_ctl(ep, EPOLL_CTL_ADD, s, &e));
    for (;;) {
        if (epoll_wait(ep, &got, 1, -1) != 1)
            continue;
        int fd = accept(s, NULL, NULL);
        char byte;
        if (fd < 0)
            continue;
        if (read_all(fd, &byte, 1) == 1)
            send_all(fd, &byte, 1);
        close(fd);
    }
}

int main(void) {
    int s = listener4(), right = 0;
    pid_t pids[WORKERS];
    nonblocking(s);
    for (int i = 0; i < WORKERS; i++)
        if ((pids[i] = fork()) == 0)
            worker(s);
    for (int i = 0; i < CLIENTS; i++) {
        char sent = (char)('a' + i % 26), back = 0;
        int c = client4(s);
        send_all(c, &sent, 1);
        right += read_all(c, &back, 1) == 1 && back == sent && read_all(c, &back, 1) == 0;
        close(c);
    }
    printf("served: %d\n", right);
    for (int i = 0; i < WORKERS; i++) {
        kill(pids[i], SIGKILL);
        show_status("worker", pids[i]);
    }
    return 0;
}
