// A sender whose buffer is full shuts down for writing: it is writable, to say EPIPE, though the peer reads nothing.
// gap: Readiness after shutdown of a full socket
#include "probe.h"

static char block[65536];

int main(void) {
    int c, d;
    connected_pair(&c, &d);
    nonblocking(c);
    struct pollfd p = {.fd = c, .events = POLLOUT};
    while (poll(&p, 1, 500) == 1)
        while (write(c, block, sizeof block) > 0)
            continue;
    show_poll("full", c);
    T(shutdown(c, SHUT_WR));
    show_poll("shut down", c);
    T(send(c, block, 1, MSG_NOSIGNAL));
    return 0;
}
