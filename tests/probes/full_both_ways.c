// Both sides write until nothing goes, then both read: every byte is there, in both directions.
#include "probe.h"

static unsigned char block[1 << 16];

static unsigned long fill(int fd, unsigned *state) {
    unsigned long sent = 0;
    struct pollfd p = {.fd = fd, .events = POLLOUT};
    while (poll(&p, 1, 200) == 1)
        for (;;) {
            unsigned s = *state;
            for (size_t i = 0; i < sizeof block; i++)
                block[i] = (unsigned char)(s++ % 251);
            ssize_t n = write(fd, block, sizeof block);
            if (n <= 0)
                break;
            *state += (unsigned)n;
            sent += (unsigned long)n;
        }
    return sent;
}

static int drain(int fd, unsigned long want) {
    unsigned state = 0;
    unsigned long got = 0;
    struct pollfd p = {.fd = fd, .events = POLLIN};
    while (got < want && poll(&p, 1, SOON) == 1) {
        ssize_t n = read(fd, block, sizeof block);
        if (n <= 0)
            return 0;
        for (ssize_t i = 0; i < n; i++)
            if (block[i] != (unsigned char)(state++ % 251))
                return 0;
        got += (unsigned long)n;
    }
    return got == want;
}

int main(void) {
    int c, d;
    unsigned a = 0, b = 0;
    connected_pair(&c, &d);
    nonblocking(c);
    nonblocking(d);
    unsigned long there = fill(c, &a), back = fill(d, &b);
    printf("both are full: %d %d\n", there > 0, back > 0);
    printf("there %d\n", drain(d, there));
    printf("back %d\n", drain(c, back));
    settle(c, POLLOUT);
    settle(d, POLLOUT);
    show_poll("c", c);
    show_poll("d", d);
    return 0;
}
