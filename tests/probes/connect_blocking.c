// A blocking connect, before anybody has accepted, and what the socket is afterwards.
#include "probe.h"

int main(void) {
    int s = listener4(), c = tcp4();
    struct sockaddr_in a = v4(port_of(s));
    T(connect(c, SA(a), sizeof a));
    show_names("client", c);
    show_error("client", c);
    show_poll("client", c);
    T(connect(c, SA(a), sizeof a));
    /* Data written before accept waits for it. */
    T(write(c, "early", 5));
    int d = TFD(accept(s, NULL, NULL));
    settle(d, POLLIN);
    show_read("server", d);
    show_names("server", d);

    /* Bound first: the chosen source port is what the server sees. */
    int e = tcp4();
    struct sockaddr_in source = v4(0);
    T(bind(e, SA(source), sizeof source));
    show_names("bound", e);
    T(connect(e, SA(a), sizeof a));
    show_names("bound", e);
    int f = TFD(accept(s, NULL, NULL));
    show_names("server", f);
    /* The wildcard address means this host. */
    int g = tcp4();
    a.sin_addr.s_addr = INADDR_ANY;
    T(connect(g, SA(a), sizeof a));
    show_names("via 0.0.0.0", g);
    /* Another address of this host. */
    int h = tcp4();
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1);
    T(connect(h, SA(a), sizeof a));
    return 0;
}
