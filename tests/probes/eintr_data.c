// A signal interrupts a blocked recv and send: EINTR, or with SA_RESTART they go on waiting.
#include "probe.h"

static volatile sig_atomic_t caught;
static void handler(int signal) {
    (void)signal;
    caught++;
}

enum { SIZE = 64 << 20 };
static struct gate ready;
static pid_t tid;
static int fd, sends;

static void *blocked(void *unused) {
    static char block[SIZE];
    ssize_t n;
    (void)unused;
    tid = thread_id();
    gate_open(ready);
    errno = 0;
    if (!sends)
        n = recv(fd, block, sizeof block, 0);
    else
        n = send(fd, block, sizeof block, MSG_NOSIGNAL);
    /* Part of a large write has gone when the signal comes: that part counts, SA_RESTART or not. */
    int part = sends && n > 0 && n < SIZE;
    printf("%s: %s, handler ran %d\n", sends ? "send" : "recv", n < 0 ? errno_name(errno) : part ? "part" : "all", caught);
    return NULL;
}

int main(void) {
    int flags[] = {0, SA_RESTART};
    ready = gate();
    for (int i = 0; i < 2; i++)
        for (sends = 0; sends < 2; sends++) {
            struct sigaction a = {.sa_handler = handler, .sa_flags = flags[i]};
            pthread_t thread;
            int peer;
            caught = 0;
            sigaction(SIGUSR1, &a, NULL);
            connected_pair(&fd, &peer);
            pthread_create(&thread, NULL, blocked, NULL);
            gate_wait(ready);
            wait_blocked(tid);
            pthread_kill(thread, SIGUSR1);
            if (flags[i]) {
                for (int j = 0; j < SOON && !caught; j++)
                    poll(NULL, 0, 1);
                if (!sends) {
                    wait_blocked(tid);
                    send_all(peer, "data", 4);
                }
            }
            pthread_join(thread, NULL);
            close(fd);
            close(peer);
        }
    return 0;
}
