// SO_RCVTIMEO with MSG_WAITALL and SO_SNDTIMEO in the middle of a write: the bytes so far, then EAGAIN.
#include "probe.h"

int main(void) {
    int c, d;
    char text[16];
    static char block[64 << 20];
    struct timeval t = {.tv_usec = 150000};
    connected_pair(&c, &d);
    T(setsockopt(d, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t));
    T(setsockopt(c, SOL_SOCKET, SO_SNDTIMEO, &t, sizeof t));
    send_all(c, "four", 4);
    settle(d, POLLIN);
    T(recv(d, text, 10, MSG_WAITALL));
    T(recv(d, text, 10, MSG_WAITALL));
    T(read(d, text, 1));
    ssize_t n = send(c, block, sizeof block, MSG_NOSIGNAL);
    printf("part: %d\n", n > 0 && n < (ssize_t)sizeof block);
    /* MSG_DONTWAIT and O_NONBLOCK know no time. */
    T(recv(c, text, 1, MSG_DONTWAIT));
    size_t got = 0;
    nonblocking(d);
    struct pollfd p = {.fd = d, .events = POLLIN};
    for (; got < (size_t)n && poll(&p, 1, SOON) == 1;)
        got += (size_t)MUST(read(d, block, sizeof block));
    printf("nothing lost: %d\n", got >= (size_t)n);
    return 0;
}
