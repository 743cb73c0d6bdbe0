// A static binary: everything above holds without a dynamic loader.
// static
#include "probe.h"

int main(void) {
    int s = listener4(), c = client4(s), d = TFD(accept(s, NULL, NULL));
    show_names("client", c);
    show_names("server", d);
    send_all(c, "static", 6);
    settle(d, POLLIN);
    show_read("server", d);
    T(shutdown(c, SHUT_WR));
    settle(d, POLLRDHUP);
    show_read("server", d);
    T(close(c));
    T(close(d));
    return 0;
}
