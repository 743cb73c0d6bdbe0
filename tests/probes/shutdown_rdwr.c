// Both at once, in one call or two.
#include "probe.h"

int main(void) {
    int c, d;
    connected_pair(&c, &d);
    send_all(c, "last", 4);
    T(shutdown(c, SHUT_RDWR));
    show_read("client", c);
    T(send(c, "x", 1, MSG_NOSIGNAL));
    settle(d, POLLIN | POLLRDHUP);
    show_read("server", d);
    show_read("server", d);
    show_names("client", c);
    T(shutdown(c, SHUT_RDWR));
    T(close(d));

    connected_pair(&c, &d);
    T(shutdown(c, SHUT_RD));
    T(shutdown(c, SHUT_WR));
    settle(d, POLLIN | POLLRDHUP);
    show_read("server", d);
    T(shutdown(d, SHUT_WR));
    settle(d, POLLHUP);
    show_poll("server", d);
    return 0;
}
