// A write is the first to meet a reset.
// gap: The errno of read and write after a failure
#include "probe.h"

int main(void) {
    int c, d;
    connected_pair(&c, &d);
    send_all(c, "never read", 10);
    settle(d, POLLIN);
    T(close(d));
    settle(c, POLLERR | POLLHUP);
    T(send(c, "x", 1, MSG_NOSIGNAL));
    T(send(c, "x", 1, MSG_NOSIGNAL));
    return 0;
}
