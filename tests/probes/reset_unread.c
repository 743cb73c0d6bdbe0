// close with data unread resets the connection: what was sent before may be read, then ECONNRESET, once.
#include "probe.h"

int main(void) {
    int c, d;
    connected_pair(&c, &d);
    send_all(c, "never read", 10);
    settle(d, POLLIN);
    T(close(d));
    settle(c, POLLIN | POLLERR | POLLHUP | POLLRDHUP);
    show_poll("client", c);
    show_read("client", c);
    show_read("client", c);
    T(send(c, "x", 1, MSG_NOSIGNAL));
    show_error("client", c);
    show_poll("client, error taken", c);
    T(close(c));

    connected_pair(&c, &d);
    send_all(c, "never read", 10);
    settle(d, POLLIN);
    T(close(d));
    settle(c, POLLERR | POLLHUP);
    show_error("first", c);
    show_error("second", c);
    show_read("after SO_ERROR", c);
    return 0;
}
