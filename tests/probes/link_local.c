// Link-local addresses and their scope ids. The interface is the loopback of a network namespace.
// net: silent
#include "probe.h"
#include <net/if.h>

static struct sockaddr_in6 local(uint16_t port, unsigned scope) {
    struct sockaddr_in6 a = {.sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_scope_id = scope};
    inet_pton(AF_INET6, "fe80::1", &a.sin6_addr);
    return a;
}

int main(void) {
    unsigned lo = if_nametoindex("lo");
    int s = tcp6(), c = tcp6(), no = tcp6(), wrong = tcp6(), any = tcp6();
    struct sockaddr_in6 a = local(0, 0), from;
    socklen_t len = sizeof from;
    T(bind(s, SA(a), sizeof a));
    a = local(0, 77);
    T(bind(s, SA(a), sizeof a));
    a = local(0, lo);
    T(bind(s, SA(a), sizeof a));
    T(listen(s, 5));
    show_names("listener", s);
    uint16_t port = port_of(s);
    a = local(port, 0);
    T(connect(no, SA(a), sizeof a));
    a = local(port, 77);
    T(connect(wrong, SA(a), sizeof a));
    a = local(port, lo);
    T(connect(c, SA(a), sizeof a));
    int d = TFD(accept(s, SA(from), &len));
    show_addr("accepted", &from, len);
    show_names("client", c);
    show_names("server", d);
    send_all(c, "link", 4);
    settle(d, POLLIN);
    show_read("server", d);
    /* The wildcard takes them too. */
    a = (struct sockaddr_in6){.sin6_family = AF_INET6};
    MUST(bind(any, SA(a), sizeof a));
    MUST(listen(any, 5));
    int e = tcp6();
    a = local(port_of(any), lo);
    T(connect(e, SA(a), sizeof a));
    nonblocking(any);
    settle(any, POLLIN);
    int f = TFD(accept(any, NULL, NULL));
    show_names("server", f);
    /* A scope id with an address that needs none is left alone. */
    int g = tcp6();
    a = v6(port_of(any));
    a.sin6_scope_id = lo;
    T(connect(g, SA(a), sizeof a));
    show_names("loopback", g);
    return 0;
}
