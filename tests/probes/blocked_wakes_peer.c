// A thread blocked in read or poll wakes when the peer ends, closes or resets.
#include "probe.h"

static struct gate ready;
static pid_t blocked_tid;
static int fd, polls;

static void *blocked(void *unused) {
    char text[8];
    (void)unused;
    struct pollfd p = {.fd = fd, .events = POLLIN | POLLRDHUP};
    blocked_tid = thread_id();
    gate_open(ready);
    errno = 0;
    if (polls) {
        int r = poll(&p, 1, -1);
        printf("poll %d %s\n", r, poll_names((unsigned short)p.revents & (POLLIN | POLLRDHUP)));
    } else {
        ssize_t n = read(fd, text, sizeof text);
        printf("read %zd %s\n", n, n < 0 ? errno_name(errno) : "");
    }
    return NULL;
}

int main(void) {
    static const char *const names[] = {"ends", "closes", "resets", "sends"};
    struct linger hard = {.l_onoff = 1};
    ready = gate();
    for (int how = 0; how < 4; how++)
        for (polls = 0; polls < 2; polls++) {
            int peer;
            pthread_t thread;
            connected_pair(&fd, &peer);
            printf("peer %s: ", names[how]);
            fflush(stdout);
            pthread_create(&thread, NULL, blocked, NULL);
            gate_wait(ready);
            wait_blocked(blocked_tid);
            if (how == 0)
                MUST(shutdown(peer, SHUT_WR));
            if (how == 2)
                MUST(setsockopt(peer, SOL_SOCKET, SO_LINGER, &hard, sizeof hard));
            if (how == 1 || how == 2)
                MUST(close(peer));
            if (how == 3)
                send_all(peer, "x", 1);
            pthread_join(thread, NULL);
            close(fd);
            if (how == 0 || how == 3)
                close(peer);
        }
    return 0;
}
