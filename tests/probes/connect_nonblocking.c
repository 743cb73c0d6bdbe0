// A non-blocking connect: EINPROGRESS, then writable, SO_ERROR 0, then EISCONN.
#include "probe.h"

int main(void) {
    int s = listener4();
    int c = (int)MUST(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
    struct sockaddr_in a = v4(port_of(s));
    T(connect(c, SA(a), sizeof a));
    settle(c, POLLOUT);
    show_poll("client", c);
    show_error("client", c);
    /* The first connect after completion says 0, as Linux has it; the next EISCONN. */
    T(connect(c, SA(a), sizeof a));
    T(connect(c, SA(a), sizeof a));
    show_names("client", c);
    T(read(c, &a, 1));
    int d = TFD(accept(s, NULL, NULL));
    T(write(c, "x", 1));
    settle(d, POLLIN);
    show_read("server", d);

    /* O_NONBLOCK set later, with fcntl. */
    int e = tcp4();
    nonblocking(e);
    a = v4(port_of(s));
    T(connect(e, SA(a), sizeof a));
    settle(e, POLLOUT);
    show_error("second", e);
    TFD(accept(s, NULL, NULL));
    return 0;
}
