// A thread blocked in read, write, poll or epoll_wait wakes when the peer, or another thread, ends the connection.
#include "probe.h"

enum what { READ, WRITE, POLL, EPOLL, KINDS };
static const char *const names[] = {"read", "write", "poll", "epoll"};
static struct gate ready;
static pid_t blocked_tid;
static int fd;
static enum what kind;

static void *blocked(void *unused) {
    static char block[1 << 16];
    (void)unused;
    struct pollfd p = {.fd = fd, .events = POLLIN | POLLRDHUP};
    struct epoll_event e = {.events = EPOLLIN | EPOLLRDHUP};
    int ep = epoll_create1(0);
    epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e);
    blocked_tid = thread_id();
    gate_open(ready);
    errno = 0;
    long r = 0;
    if (kind == READ)
        r = read(fd, block, sizeof block);
    if (kind == WRITE)
        while ((r = send(fd, block, sizeof block, MSG_NOSIGNAL)) > 0)
            ;
    if (kind == POLL)
        r = poll(&p, 1, -1);
    if (kind == EPOLL)
        r = epoll_wait(ep, &e, 1, -1);
    printf("%ld %s", r, r < 0 ? errno_name(errno) : "");
    if (kind == POLL)
        printf("%s", poll_names((unsigned short)p.revents));
    if (kind == EPOLL)
        printf("%s", poll_names(e.events));
    printf("\n");
    close(ep);
    return NULL;
}

static void round_of(const char *label, void (*end)(int)) {
    for (kind = READ; kind < KINDS; kind++) {
        int peer;
        pthread_t thread;
        connected_pair(&fd, &peer);
        printf("%s, in %s: ", label, names[kind]);
        pthread_create(&thread, NULL, blocked, NULL);
        gate_wait(ready);
        wait_blocked(blocked_tid);
        end(peer);
        pthread_join(thread, NULL);
        close(fd);
        close(peer);
    }
}

static void own_shutdown(int peer) {
    (void)peer;
    MUST(shutdown(fd, SHUT_RDWR));
}

int main(void) {
    ready = gate();
    setvbuf(stdout, NULL, _IOFBF, 1 << 14);
    round_of("own shutdown", own_shutdown);
    return 0;
}
