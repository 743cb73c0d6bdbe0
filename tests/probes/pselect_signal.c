// ppoll, pselect and epoll_pwait let a signal in while they wait, and say EINTR.
#include "probe.h"

static volatile sig_atomic_t caught;
static void handler(int signal) {
    (void)signal;
    caught++;
}

int main(void) {
    int c, d, ep = (int)MUST(epoll_create1(0));
    sigset_t blocked, none;
    struct sigaction a = {.sa_handler = handler, .sa_flags = SA_RESTART};
    struct timespec limit = {.tv_sec = 20};
    connected_pair(&c, &d);
    struct pollfd p = {.fd = c, .events = POLLIN};
    struct epoll_event e = {.events = EPOLLIN};
    fd_set r;
    sigemptyset(&none);
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGUSR1);
    sigprocmask(SIG_BLOCK, &blocked, NULL);
    sigaction(SIGUSR1, &a, NULL);
    MUST(epoll_ctl(ep, EPOLL_CTL_ADD, c, &e));
    raise(SIGUSR1);
    printf("blocked: %d\n", caught);
    T(ppoll(&p, 1, &limit, &none));
    printf("caught %d\n", caught);
    raise(SIGUSR1);
    FD_ZERO(&r);
    FD_SET(c, &r);
    T(pselect(c + 1, &r, NULL, NULL, &limit, &none));
    printf("caught %d\n", caught);
    raise(SIGUSR1);
    T(epoll_pwait(ep, &e, 1, 20000, &none));
    printf("caught %d\n", caught);
    /* Data that is there comes first. */
    send_all(d, "x", 1);
    settle(c, POLLIN);
    T(ppoll(&p, 1, &limit, &blocked));
    T(epoll_pwait(ep, &e, 1, 20000, &blocked));
    return 0;
}
