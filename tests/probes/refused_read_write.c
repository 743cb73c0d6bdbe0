// read(2) and write(2) take the error of a refused non-blocking connect.
// gap: The errno of read and write after a failure
#include "probe.h"

int main(void) {
    int holder;
    struct sockaddr_in closed = v4(closed_port(&holder));

    int d = refused(&closed);
    settle(d, POLLERR);
    T(send(d, "x", 1, MSG_NOSIGNAL));
    show_error("after write", d);

    int e = refused(&closed);
    settle(e, POLLERR);
    T(read(e, &closed, 1));
    show_error("after read", e);

    return 0;
}
