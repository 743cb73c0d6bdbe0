// shutdown where it does not apply.
#include "probe.h"

int main(void) {
    int fresh = tcp4(), bound = tcp4(), c, d, holder;
    struct sockaddr_in a = v4(0);
    T(shutdown(fresh, SHUT_RD));
    T(shutdown(fresh, SHUT_WR));
    T(shutdown(fresh, SHUT_RDWR));
    MUST(bind(bound, SA(a), sizeof a));
    T(shutdown(bound, SHUT_WR));
    connected_pair(&c, &d);
    T(shutdown(c, 3));
    T(shutdown(c, -1));
    T(shutdown(-1, SHUT_WR));
    T(shutdown(1000, SHUT_WR));
    T(shutdown(0, SHUT_WR));
    int r = tcp4();
    struct sockaddr_in closed = v4(closed_port(&holder));
    T(connect(r, SA(closed), sizeof closed));
    T(shutdown(r, SHUT_WR));
    /* After all that the connection is whole. */
    send_all(c, "whole", 5);
    settle(d, POLLIN);
    show_read("server", d);
    return 0;
}
