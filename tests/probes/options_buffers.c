// SO_SNDBUF and SO_RCVBUF: doubled as TCP doubles them, with its least sizes.
#include "probe.h"

static void set(const char *label, int fd, int name, int value) {
    int got = -1;
    socklen_t len = sizeof got;
    errno = 0;
    int r = setsockopt(fd, SOL_SOCKET, name, &value, sizeof value), e = errno;
    getsockopt(fd, SOL_SOCKET, name, &got, &len);
    printf("%s %d: %d %s, is %d\n", label, value, r, errno_name(e), got);
}

int main(void) {
    int c, d, fresh = tcp4(), s = listener4(), value = 0;
    socklen_t len = sizeof value;
    connected_pair(&c, &d);
    int fds[] = {fresh, s, c};
    const char *names[] = {"new", "listening", "connected"};
    for (int i = 0; i < 3; i++) {
        printf("-- %s\n", names[i]);
        T(getsockopt(fds[i], SOL_SOCKET, SO_SNDBUF, &value, &len));
        printf("sane: %d\n", value >= 16384);
        T(getsockopt(fds[i], SOL_SOCKET, SO_RCVBUF, &value, &len));
        printf("sane: %d\n", value >= 16384);
        set("SNDBUF", fds[i], SO_SNDBUF, 50000);
        set("RCVBUF", fds[i], SO_RCVBUF, 60000);
        set("SNDBUF", fds[i], SO_SNDBUF, 1);
        set("RCVBUF", fds[i], SO_RCVBUF, 1);
        set("SNDBUF", fds[i], SO_SNDBUF, 0);
        set("RCVBUF", fds[i], SO_RCVBUF, 100000);
        set("SNDBUF", fds[i], SO_SNDBUF, 100000);
    }
    /* Small or large, data still flows. */
    static char block[300000], got[300000];
    set("SNDBUF", c, SO_SNDBUF, 5000);
    memset(block, 'b', sizeof block);
    pid_t child = fork();
    if (child == 0) {
        send_all(c, block, sizeof block);
        _exit(0);
    }
    printf("received: %d\n", read_all(d, got, sizeof got) == sizeof got && !memcmp(block, got, sizeof got));
    show_status("sender", child);
    return 0;
}
