// The whole life of an IPv6 connection.
#include "probe.h"

int main(void) {
    int s = tcp6(), c = tcp6();
    struct sockaddr_in6 a = v6(0), from;
    socklen_t len = sizeof from;
    T(bind(s, SA(a), sizeof a));
    T(listen(s, 5));
    show_names("listener", s);
    a = v6(port_of(s));
    a.sin6_flowinfo = htonl(5);
    T(connect(c, SA(a), sizeof a));
    int d = TFD(accept(s, SA(from), &len));
    show_addr("accepted", &from, len);
    show_names("client", c);
    show_names("server", d);
    send_all(c, "six", 3);
    settle(d, POLLIN);
    show_read("server", d);
    T(shutdown(d, SHUT_WR));
    settle(c, POLLRDHUP);
    show_read("client", c);

    /* IPv4 is another matter: nobody listens there. */
    int four = tcp4();
    struct sockaddr_in b = v4(port_of(s));
    T(connect(four, SA(b), sizeof b));
    /* An old, shorter sockaddr_in6 will do. */
    int e = tcp6();
    a = v6(port_of(s));
    T(connect(e, SA(a), 24));
    show_names("short", e);
    /* The unspecified address means this host. */
    int f = tcp6();
    a.sin6_addr = in6addr_any;
    T(connect(f, SA(a), sizeof a));
    show_names("via ::", f);
    /* A closed port. */
    int gone = tcp6();
    a = v6(0);
    MUST(bind(gone, SA(a), sizeof a));
    a = v6(port_of(gone));
    int g = tcp6();
    T(connect(g, SA(a), sizeof a));
    return 0;
}
