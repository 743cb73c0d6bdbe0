// What connect refuses before any packet is sent.
#include "probe.h"

int main(void) {
    int s = listener4(), c = tcp4(), six = tcp6();
    struct sockaddr_in a = v4(port_of(s));
    T(connect(c, SA(a), 2));
    T(connect(c, SA(a), sizeof a - 1));
    T(connect(c, SA(a), 0));
    T(connect(c, SA(a), -1));
    T(connect(c, SA(a), 129));
    T(connect(c, NULL, sizeof a));
    T(connect(c, (void *)1, sizeof a));
    T(connect(c, (void *)-4096L, sizeof a));
    T(connect(-1, SA(a), sizeof a));
    T(connect(1000, SA(a), sizeof a));
    T(connect(0, SA(a), sizeof a));
    a.sin_family = AF_INET6;
    T(connect(c, SA(a), sizeof a));
    a.sin_family = 77;
    T(connect(c, SA(a), sizeof a));
    struct sockaddr_in6 b = v6(port_of(s));
    T(connect(c, SA(b), sizeof b));
    T(connect(six, SA(b), sizeof b - 5));
    /* AF_UNSPEC dissolves an association: on a new socket there is none, and that is fine. */
    struct sockaddr_in unspec = {.sin_family = AF_UNSPEC};
    T(connect(c, SA(unspec), sizeof unspec));
    /* After all that it still connects. */
    a = v4(port_of(s));
    T(connect(c, SA(a), sizeof a));
    TFD(accept(s, NULL, NULL));
    T(connect(c, SA(a), sizeof a));
    T(connect(c, SA(a), 2));
    return 0;
}
