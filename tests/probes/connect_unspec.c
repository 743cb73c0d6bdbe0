// connect to AF_UNSPEC dissolves a connection.
// gap: connect to AF_UNSPEC
#include "probe.h"

int main(void) {
    int c, d;
    struct sockaddr_in none = {.sin_family = AF_UNSPEC};
    connected_pair(&c, &d);
    T(connect(c, SA(none), sizeof none));
    nonblocking(d);
    poll(&(struct pollfd){.fd = d, .events = POLLIN}, 1, 200);
    show_read("server", d);
    struct sockaddr_in a;
    socklen_t len = sizeof a;
    T(getpeername(c, SA(a), &len));
    int s = listener4();
    a = v4(port_of(s));
    T(connect(c, SA(a), sizeof a));
    return 0;
}
