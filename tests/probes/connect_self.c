// A socket that connects to its own port is connected to itself (RFC 9293, simultaneous open).
// gap: Connecting to oneself, and to one another at once
#include "probe.h"

int main(void) {
    int c = tcp4();
    struct sockaddr_in a = v4(0);
    T(bind(c, SA(a), sizeof a));
    a = v4(port_of(c));
    T(connect(c, SA(a), sizeof a));
    show_names("self", c);
    T(send(c, "me", 2, MSG_NOSIGNAL | MSG_DONTWAIT));
    return 0;
}
