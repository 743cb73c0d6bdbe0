// A wildcard IPv6 listener takes IPv4 clients, shown as mapped addresses; IPv6 sockets connect to mapped ones.
#include "probe.h"

int main(void) {
    int s = tcp6(), c = tcp4(), e = tcp6(), six = tcp6();
    struct sockaddr_in6 a = {.sin6_family = AF_INET6}, from;
    socklen_t len = sizeof from;
    T(bind(s, SA(a), sizeof a));
    T(listen(s, 5));
    show_names("listener", s);

    struct sockaddr_in b = v4(port_of(s));
    T(connect(c, SA(b), sizeof b));
    int d = TFD(accept(s, SA(from), &len));
    show_addr("accepted", &from, len);
    show_names("client", c);
    show_names("server", d);
    send_all(d, "mapped", 6);
    settle(c, POLLIN);
    show_read("client", c);

    inet_pton(AF_INET6, "::ffff:127.0.0.1", &a.sin6_addr);
    a.sin6_port = htons(port_of(s));
    T(connect(e, SA(a), sizeof a));
    int f = TFD(accept(s, NULL, NULL));
    show_names("mapped client", e);
    show_names("its server", f);

    a = v6(port_of(s));
    T(connect(six, SA(a), sizeof a));
    int g = TFD(accept(s, NULL, NULL));
    show_names("IPv6 client", six);
    show_names("its server", g);

    /* A listener on a mapped address is an IPv4 listener. */
    int m = tcp6(), h = tcp4();
    inet_pton(AF_INET6, "::ffff:127.0.0.1", &a.sin6_addr);
    a.sin6_port = 0;
    T(bind(m, SA(a), sizeof a));
    T(listen(m, 5));
    show_names("mapped listener", m);
    b = v4(port_of(m));
    T(connect(h, SA(b), sizeof b));
    len = sizeof from;
    TFD(accept(m, SA(from), &len));
    show_addr("accepted", &from, len);
    int no = tcp6();
    a = v6(port_of(m));
    T(connect(no, SA(a), sizeof a));
    return 0;
}
