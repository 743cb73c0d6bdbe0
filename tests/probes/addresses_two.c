// One port on two addresses, each with its own listener; a wildcard beside them is refused; IPv6 beside IPv4.
#include "probe.h"

static int on(uint32_t address, uint16_t port) {
    int fd = tcp4();
    struct sockaddr_in a = v4(port);
    a.sin_addr.s_addr = htonl(address);
    T(bind(fd, SA(a), sizeof a));
    return fd;
}

int main(void) {
    int one = on(INADDR_LOOPBACK, 0), two = on(INADDR_LOOPBACK + 1, port_of(one));
    MUST(listen(one, 5));
    MUST(listen(two, 5));
    uint16_t port = port_of(one);
    for (uint32_t i = 0; i < 3; i++) {
        int c = tcp4();
        struct sockaddr_in a = v4(port);
        a.sin_addr.s_addr = htonl(INADDR_LOOPBACK + i);
        T(connect(c, SA(a), sizeof a));
        if (i < 2) {
            int d = TFD(accept(i ? two : one, NULL, NULL));
            show_names("server", d);
            close(d);
        }
        close(c);
    }
    close(on(INADDR_ANY, port));
    close(on(INADDR_LOOPBACK, port));
    close(on(0xc0000201, port));
    int six = tcp6(), both = tcp6(), yes = 1;
    struct sockaddr_in6 b = v6(port), any = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    T(bind(six, SA(b), sizeof b));
    T(listen(six, 5));
    T(bind(both, SA(any), sizeof any));
    T(setsockopt(both, IPPROTO_IPV6, IPV6_V6ONLY, &yes, sizeof yes));
    T(bind(both, SA(any), sizeof any));
    return 0;
}
