// Urgent data that is to lie among the others (SO_OOBINLINE): all of it arrives, and in its place.
#include "probe.h"

/* Reads `want` bytes, as they come. */
static void show_all(const char *label, int fd, size_t want) {
    char text[64];
    size_t have = 0;
    struct pollfd p = {.fd = fd, .events = POLLIN};
    while (have < want && poll(&p, 1, 2000) == 1) {
        ssize_t more = read(fd, text + have, sizeof text - have);
        if (more <= 0)
            break;
        have += more;
    }
    printf("%s: %zu bytes: %.*s\n", label, have, (int)have, text);
}

int main(void) {
    int c, d, on = 1;
    connected_pair(&c, &d);
    T(setsockopt(d, SOL_SOCKET, SO_OOBINLINE, &on, sizeof on));
    for (int round = 0; round < 20; round++) {
        struct timespec pause = {.tv_nsec = 2000000 * (round % 3)};
        MUST(send(c, "abort!", 6, MSG_OOB));
        show_all("urgent at its end", d, 6);
        nanosleep(&pause, NULL);
    }
    for (int round = 0; round < 20; round++) {
        send_all(c, "before,", 7);
        MUST(send(c, "now!", 4, MSG_OOB));
        send_all(c, "behind", 6);
        show_all("among others", d, 17);
    }
    MUST(send(c, "last!", 5, MSG_OOB));
    T(close(c));
    show_all("before the end", d, 5);
    show_read("server", d);
    return 0;
}
