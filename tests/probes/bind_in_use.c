// One port, several sockets: EADDRINUSE, SO_REUSEADDR, and the port after a close.
#include "probe.h"

static int bound(uint16_t port, uint32_t address, int reuse, const char *label) {
    int fd = tcp4();
    struct sockaddr_in a = v4(port);
    a.sin_addr.s_addr = htonl(address);
    if (reuse)
        MUST(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &reuse, sizeof reuse));
    errno = 0;
    int r = bind(fd, SA(a), sizeof a);
    printf("%s: bind = %d %s\n", label, r, r ? errno_name(errno) : "");
    return fd;
}

int main(void) {
    int first = listener4();
    uint16_t port = port_of(first);
    int fds[] = {
        bound(port, INADDR_LOOPBACK, 0, "same address"),
        bound(port, INADDR_LOOPBACK, 1, "same address, reuse"),
        bound(port, INADDR_ANY, 0, "wildcard"),
        bound(port, INADDR_LOOPBACK + 1, 0, "127.0.0.2"),
    };
    for (int i = 0; i < 4; i++)
        close(fds[i]);
    T(close(first));
    int again = bound(port, INADDR_LOOPBACK, 0, "after close");
    T(listen(again, 1));
    close(again);

    /* Two sockets with SO_REUSEADDR may be bound to one port; only one of them may listen. */
    int a = bound(0, INADDR_LOOPBACK, 1, "a");
    int b = bound(port_of(a), INADDR_LOOPBACK, 1, "b");
    T(listen(a, 5));
    T(listen(b, 5));
    return 0;
}
