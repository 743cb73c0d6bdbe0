// Half-close: the end of one's sending is the other's end of data, and the way back stays open.
#include "probe.h"

int main(void) {
    int c, d;
    connected_pair(&c, &d);
    send_all(c, "question", 8);
    T(shutdown(c, SHUT_WR));
    settle(d, POLLIN | POLLRDHUP);
    show_poll("server", d);
    show_read("server", d);
    show_read("server", d);
    show_read("server", d);
    show_poll("server, all read", d);
    T(send(c, "x", 1, MSG_NOSIGNAL));
    show_poll("client", c);
    T(shutdown(c, SHUT_WR));
    send_all(d, "answer", 6);
    settle(c, POLLIN);
    show_read("client", c);
    T(shutdown(d, SHUT_WR));
    settle(c, POLLIN | POLLRDHUP | POLLHUP);
    show_poll("client, both ended", c);
    show_poll("server, both ended", d);
    show_read("client", c);
    show_error("client", c);
    T(close(c));
    T(close(d));
    return 0;
}
