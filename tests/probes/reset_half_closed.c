// A reset that arrives after our own end of sending.
#include "probe.h"

int main(void) {
    int c, d;
    struct linger hard = {.l_onoff = 1, .l_linger = 0};
    connected_pair(&c, &d);
    T(shutdown(c, SHUT_WR));
    settle(d, POLLIN | POLLRDHUP);
    MUST(setsockopt(d, SOL_SOCKET, SO_LINGER, &hard, sizeof hard));
    T(close(d));
    settle(c, POLLERR | POLLHUP);
    show_poll("client", c);
    show_read("client", c);
    show_read("client", c);
    return 0;
}
