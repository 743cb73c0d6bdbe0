// Both ends name each other alike; every connection has a 4-tuple of its own; bind chooses the client's.
#include "probe.h"

static int same(int a, int b) {
    struct sockaddr_in x, y;
    socklen_t len = sizeof x;
    MUST(getsockname(a, SA(x), &len));
    len = sizeof y;
    MUST(getpeername(b, SA(y), &len));
    return x.sin_family == y.sin_family && x.sin_port == y.sin_port && x.sin_addr.s_addr == y.sin_addr.s_addr;
}

int main(void) {
    enum { COUNT = 20 };
    int s = listener4(), c[COUNT], d[COUNT], agree = 0, distinct = 1;
    for (int i = 0; i < COUNT; i++) {
        struct sockaddr_in accepted;
        socklen_t len = sizeof accepted;
        c[i] = client4(s);
        d[i] = (int)MUST(accept(s, SA(accepted), &len));
        agree += same(c[i], d[i]) && same(d[i], c[i]) && ntohs(accepted.sin_port) == port_of(c[i]);
        for (int j = 0; j < i; j++)
            distinct &= port_of(c[i]) != port_of(c[j]);
    }
    printf("agree: %d, distinct: %d\n", agree, distinct);

    int e = tcp4();
    struct sockaddr_in source = v4(0), a = v4(port_of(s));
    source.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 5);
    T(bind(e, SA(source), sizeof source));
    T(connect(e, SA(a), sizeof a));
    int f = TFD(accept(s, NULL, NULL));
    show_names("from 127.0.0.6", e);
    show_names("as the server sees it", f);
    printf("agree: %d %d\n", same(e, f), same(f, e));

    int w = tcp4();
    a.sin_addr.s_addr = INADDR_ANY;
    a.sin_port = 0;
    MUST(bind(w, SA(a), sizeof a));
    MUST(listen(w, 5));
    int g = tcp4();
    a.sin_port = htons(port_of(w));
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 2);
    T(connect(g, SA(a), sizeof a));
    int h = TFD(accept(w, NULL, NULL));
    show_names("to 127.0.0.3", g);
    show_names("accepted by the wildcard", h);
    return 0;
}
