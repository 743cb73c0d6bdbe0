// Clients that choose their source: address and port, address alone, port late (IP_BIND_ADDRESS_NO_PORT), IPv6.
#include "probe.h"

static void served(int s, int c) {
    int d = TFD(accept(s, NULL, NULL));
    show_names("client", c);
    show_names("server", d);
    close(c);
    close(d);
}

int main(void) {
    int s = listener4(), c = tcp4(), e = tcp4(), f = tcp4(), on = 1;
    struct sockaddr_in to = v4(port_of(s)), from = v4(0);
    from.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 8);
    T(bind(c, SA(from), sizeof from));
    T(connect(c, SA(to), sizeof to));
    served(s, c);
    /* The address alone, and the port only when it connects. */
    T(setsockopt(e, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on));
    T(bind(e, SA(from), sizeof from));
    show_names("no port yet", e);
    T(connect(e, SA(to), sizeof to));
    served(s, e);
    /* The port alone. */
    from.sin_addr.s_addr = INADDR_ANY;
    T(bind(f, SA(from), sizeof from));
    show_names("port alone", f);
    T(connect(f, SA(to), sizeof to));
    served(s, f);
    int six = tcp6(), g = tcp6();
    struct sockaddr_in6 b = v6(0);
    MUST(bind(six, SA(b), sizeof b));
    MUST(listen(six, 5));
    T(bind(g, SA(b), sizeof b));
    b = v6(port_of(six));
    T(connect(g, SA(b), sizeof b));
    served(six, g);
    return 0;
}
