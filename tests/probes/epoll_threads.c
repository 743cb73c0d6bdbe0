// Threads share one epoll, edge-triggered and one-shot: each arrival wakes one of them, and each is handled once.
#include "probe.h"

enum { THREADS = 4, CONNECTIONS = 8, ROUNDS = 200 };
static int ep, c[CONNECTIONS], d[CONNECTIONS];
static int handled[CONNECTIONS], at_once[CONNECTIONS], overlaps, done;

static void *work(void *unused) {
    (void)unused;
    struct epoll_event got;
    char byte;
    while (!__atomic_load_n(&done, __ATOMIC_SEQ_CST)) {
        if (epoll_wait(ep, &got, 1, 20) != 1)
            continue;
        int i = (int)got.data.u32;
        if (__atomic_add_fetch(&at_once[i], 1, __ATOMIC_SEQ_CST) != 1)
            __atomic_add_fetch(&overlaps, 1, __ATOMIC_SEQ_CST);
        while (read(d[i], &byte, 1) == 1) {
            __atomic_add_fetch(&handled[i], 1, __ATOMIC_SEQ_CST);
            send_all(d[i], &byte, 1);
        }
        __atomic_sub_fetch(&at_once[i], 1, __ATOMIC_SEQ_CST);
        struct epoll_event e = {.events = EPOLLIN | EPOLLET | EPOLLONESHOT, .data.u32 = (unsigned)i};
        epoll_ctl(ep, EPOLL_CTL_MOD, d[i], &e);
    }
    return NULL;
}

int main(void) {
    pthread_t threads[THREADS];
    int right = 0, total = 0;
    ep = (int)MUST(epoll_create1(0));
    for (int i = 0; i < CONNECTIONS; i++) {
        connected_pair(&c[i], &d[i]);
        nonblocking(d[i]);
        struct epoll_event e = {.events = EPOLLIN | EPOLLET | EPOLLONESHOT, .data.u32 = (unsigned)i};
        MUST(epoll_ctl(ep, EPOLL_CTL_ADD, d[i], &e));
    }
    for (int i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, work, NULL);
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < CONNECTIONS; i++)
            send_all(c[i], "x", 1);
        for (int i = 0; i < CONNECTIONS; i++) {
            struct pollfd p = {.fd = c[i], .events = POLLIN};
            char byte;
            right += poll(&p, 1, SOON) == 1 && read(c[i], &byte, 1) == 1;
        }
    }
    __atomic_store_n(&done, 1, __ATOMIC_SEQ_CST);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < CONNECTIONS; i++)
        total += handled[i];
    printf("answered %d, handled %d, overlaps %d\n", right, total, overlaps);
    return 0;
}
