// SO_RCVTIMEO and SO_SNDTIMEO: forms, limits, rounding, both layouts.
#include "probe.h"

static void set(const char *label, int fd, int name, long sec, long usec) {
    struct timeval t = {.tv_sec = sec, .tv_usec = usec}, got = {-1, -1};
    socklen_t len = sizeof got;
    errno = 0;
    int r = setsockopt(fd, SOL_SOCKET, name, &t, sizeof t), e = errno;
    getsockopt(fd, SOL_SOCKET, name, &got, &len);
    printf("%s %ld.%06ld: %d %s, is %ld.%06ld, length %u\n", label, sec, usec, r, r ? errno_name(e) : "", (long)got.tv_sec,
           (long)got.tv_usec, len);
}

int main(void) {
    int c, d;
    connected_pair(&c, &d);
    int fds[] = {tcp4(), listener4(), c};
    for (int i = 0; i < 3; i++) {
        set("rcv", fds[i], SO_RCVTIMEO, 3, 500000);
        set("rcv", fds[i], SO_RCVTIMEO, 0, 1);
        set("rcv", fds[i], SO_RCVTIMEO, 0, 999999);
        set("rcv", fds[i], SO_RCVTIMEO, 0, 1000000);
        set("rcv", fds[i], SO_RCVTIMEO, 0, -1);
        set("rcv", fds[i], SO_RCVTIMEO, -1, 0);
        set("rcv", fds[i], SO_RCVTIMEO, 1L << 40, 0);
        set("rcv", fds[i], SO_RCVTIMEO, 0, 0);
        set("snd", fds[i], SO_SNDTIMEO, 7, 4000);
        set("snd", fds[i], SO_SNDTIMEO, -5, 0);
        set("rcv new", fds[i], 66, 2, 20000);
        set("snd new", fds[i], 67, 2, 20000);
    }
    struct timeval t = {.tv_sec = 1};
    T(setsockopt(c, SOL_SOCKET, SO_RCVTIMEO, &t, 8));
    T(setsockopt(c, SOL_SOCKET, SO_RCVTIMEO, &t, 0));
    T(setsockopt(c, SOL_SOCKET, SO_RCVTIMEO, (void *)8, sizeof t));
    return 0;
}
