// Data that arrives when both directions were shut down, and after close as well, is answered with a reset.
#include "probe.h"

enum { CHUNK = 65536 };

/* Sends until that fails. */
static int sends_until(int fd) {
    static char chunk[CHUNK];
    for (int rounds = 0; rounds < 20000; rounds++)
        if (send(fd, chunk, sizeof chunk, MSG_NOSIGNAL) < 0)
            return errno;
    return 0;
}

int main(void) {
    int c, d;
    connected_pair(&c, &d);
    MUST(shutdown(c, SHUT_RDWR));
    int error = sends_until(d);
    printf("held: %s\n", error == ECONNRESET || error == EPIPE ? "reset" : "sent");
    close(c);
    close(d);
    connected_pair(&c, &d);
    MUST(shutdown(c, SHUT_RDWR));
    close(c);
    error = sends_until(d);
    printf("closed: %s\n", error == ECONNRESET || error == EPIPE ? "reset" : "sent");
    connected_pair(&c, &d);
    MUST(shutdown(c, SHUT_RD));
    close(c);
    error = sends_until(d);
    printf("closed after SHUT_RD: %s\n", error == ECONNRESET || error == EPIPE ? "reset" : "sent");
    return 0;
}
