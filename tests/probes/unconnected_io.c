// Reading and writing a socket that is not connected.
// gap: Reading and writing an unconnected socket
#include "probe.h"

int main(void) {
    int fresh = tcp4(), s = listener4(), holder;
    nonblocking(fresh);
    nonblocking(s);
    show_read("new", fresh);
    T(send(fresh, "x", 1, MSG_NOSIGNAL));
    show_read("listener", s);
    T(send(s, "x", 1, MSG_NOSIGNAL));
    int refused = tcp4();
    struct sockaddr_in closed = v4(closed_port(&holder));
    T(connect(refused, SA(closed), sizeof closed));
    nonblocking(refused);
    show_read("refused", refused);
    T(send(refused, "x", 1, MSG_NOSIGNAL));
    return 0;
}
