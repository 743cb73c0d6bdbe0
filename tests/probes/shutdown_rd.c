// The end of one's receiving: read says 0, the peer does not learn of it and may go on sending.
#include "probe.h"

int main(void) {
    int c, d;
    connected_pair(&c, &d);
    T(shutdown(c, SHUT_RD));
    show_poll("client", c);
    show_read("client", c);
    /* The other side does not learn of it. */
    show_poll("server", d);
    T(send(d, "late", 4, MSG_NOSIGNAL));
    T(send(d, "r", 1, MSG_NOSIGNAL));
    /* And the way there works. */
    T(send(c, "still", 5, MSG_NOSIGNAL));
    settle(d, POLLIN);
    show_read("server", d);
    return 0;
}
