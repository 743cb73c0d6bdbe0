// Writing to a peer that has closed: the first write is taken, later ones get EPIPE and SIGPIPE.
#include "probe.h"

static volatile sig_atomic_t pipes;
static void count(int signal) {
    (void)signal;
    pipes++;
}

/* Write until it fails: how soon the peer's answer arrives is a matter of time. */
static void until_broken(int fd, int flags) {
    struct timespec pause = {.tv_nsec = 2000000};
    for (int i = 0; i < SOON / 2; i++) {
        errno = 0;
        if (send(fd, "x", 1, flags) < 0 && errno != ECONNRESET)
            break;
        nanosleep(&pause, NULL);
    }
    printf("in the end: %s\n", errno_name(errno));
}

int main(void) {
    int c, d;
    signal(SIGPIPE, count);
    connected_pair(&c, &d);
    T(close(d));
    settle(c, POLLIN | POLLRDHUP);
    show_read("client", c);
    T(send(c, "first", 5, 0));
    printf("signals: %d\n", pipes);
    until_broken(c, 0);
    printf("signals: %d\n", pipes);
    until_broken(c, MSG_NOSIGNAL);
    T(send(c, "x", 1, MSG_NOSIGNAL));
    printf("signals: %d\n", pipes);
    T(write(c, "x", 1));
    printf("signals: %d\n", pipes);
    show_read("client", c);

    /* With the default disposition the writer dies. */
    signal(SIGPIPE, SIG_DFL);
    connected_pair(&c, &d);
    pid_t child = fork();
    if (child == 0) {
        close(d);
        settle(c, POLLIN | POLLRDHUP);
        until_broken(c, 0);
        _exit(0);
    }
    close(c);
    close(d);
    show_status("writer", child);
    return 0;
}
