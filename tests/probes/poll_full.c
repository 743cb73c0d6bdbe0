// A sender that is not read becomes unwritable, and writable again when it is.
#include "probe.h"

static char block[65536];

/* Write until nothing goes for a while: buffers grow on the way. */
static size_t fill(int fd) {
    size_t sent = 0;
    struct pollfd p = {.fd = fd, .events = POLLOUT};
    nonblocking(fd);
    while (poll(&p, 1, 500) == 1)
        for (ssize_t n; (n = write(fd, block, sizeof block)) > 0;)
            sent += (size_t)n;
    return sent;
}

int main(void) {
    int c, d;
    size_t got = 0;
    connected_pair(&c, &d);
    size_t sent = fill(c);
    printf("took some: %d\n", sent > 0);
    show_poll("full", c);
    T(shutdown(c, SHUT_WR));
    for (ssize_t n; (n = MUST(read(d, block, sizeof block))) > 0;)
        got += (size_t)n;
    printf("all arrived: %d\n", got == sent);

    /* Writable again once the reader has caught up. */
    connected_pair(&c, &d);
    fill(c);
    nonblocking(d);
    struct pollfd both[2] = {{.fd = c, .events = POLLOUT}, {.fd = d, .events = POLLIN}};
    while (poll(both, 2, SOON) > 0 && !(both[0].revents & POLLOUT))
        if (both[1].revents & POLLIN)
            MUST(read(d, block, sizeof block));
    show_poll("writable again", c);
    return 0;
}
