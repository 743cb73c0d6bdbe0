// As much as can be is sent on connections that nobody reads: another one arrives all the same.
#include "probe.h"

enum { CONNECTIONS = 9 };
static char block[65536];

static void fill(int fd) {
    struct pollfd p = {.fd = fd, .events = POLLOUT};
    nonblocking(fd);
    while (poll(&p, 1, 100) == 1)
        while (write(fd, block, sizeof block) > 0)
            continue;
}

int main(void) {
    int s = listener4();
    for (int i = 0; i < CONNECTIONS; i++) {
        int c = client4(s);
        settle(s, POLLIN);
        MUST(accept(s, NULL, NULL));
        fill(c);
    }
    printf("%d connections\n", CONNECTIONS);
    return 0;
}
