// A reset after the peer's end of data: EPIPE instead of ECONNRESET, for SO_ERROR and for the calls.
#include "probe.h"

static int ended_then_reset(void) {
    int c, d;
    connected_pair(&c, &d);
    send_all(c, "unread", 6);
    settle(d, POLLIN);
    MUST(shutdown(d, SHUT_WR));
    settle(c, POLLRDHUP);
    MUST(close(d));
    settle(c, POLLERR | POLLHUP);
    return c;
}

int main(void) {
    int c = ended_then_reset();
    show_poll("client", c);
    show_error("client", c);
    show_error("client", c);
    show_read("client", c);
    c = ended_then_reset();
    T(send(c, "x", 1, MSG_NOSIGNAL));
    return 0;
}
