// Reading and writing a socket that is not connected.
// gap: The errno of read and write on an unconnected socket
#include "probe.h"

int main(void) {
    int fresh = tcp4(), holder;
    nonblocking(fresh);
    show_read("new", fresh);
    T(send(fresh, "x", 1, MSG_NOSIGNAL));
    int refused = tcp4();
    struct sockaddr_in closed = v4(closed_port(&holder));
    T(connect(refused, SA(closed), sizeof closed));
    nonblocking(refused);
    show_read("refused", refused);
    T(send(refused, "x", 1, MSG_NOSIGNAL));
    return 0;
}
