// IPV6_V6ONLY: default, set before and after bind, what it excludes, and a second listener for IPv4.
#include "probe.h"

/* A port that is free for both families, and stays so: the kernel gives away none below 32,768, and tests none below
 * 12,000. */
static uint16_t common_port(void) {
    int on = 1;
    for (uint16_t port = 10000 + getpid() % 2000;; port++) {
        struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
        struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = htons(port)};
        int s = tcp6(), t = tcp4();
        MUST(setsockopt(s, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on));
        int free = bind(s, SA(six), sizeof six) == 0 && bind(t, SA(four), sizeof four) == 0;
        close(s);
        close(t);
        if (free)
            return port;
    }
}

int main(void) {
    int s = tcp6(), on = 1, off = 0, value = -1;
    socklen_t len = sizeof value;
    struct sockaddr_in6 a = {.sin6_family = AF_INET6, .sin6_port = htons(common_port())};
    T(getsockopt(s, IPPROTO_IPV6, IPV6_V6ONLY, &value, &len));
    printf("default %d length %u\n", value, len);
    T(setsockopt(s, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on));
    T(getsockopt(s, IPPROTO_IPV6, IPV6_V6ONLY, &value, &len));
    printf("set %d\n", value);
    T(bind(s, SA(a), sizeof a));
    T(setsockopt(s, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off));
    T(listen(s, 5));
    int c = tcp4();
    struct sockaddr_in b = v4(port_of(s));
    T(connect(c, SA(b), sizeof b));
    struct sockaddr_in6 loop = v6(port_of(s));
    int d = tcp6();
    T(connect(d, SA(loop), sizeof loop));
    TFD(accept(s, NULL, NULL));
    /* The IPv4 side of the port is free. */
    int four = tcp4();
    T(bind(four, SA(b), sizeof b));
    T(listen(four, 5));
    T(connect(c, SA(b), sizeof b));
    TFD(accept(four, NULL, NULL));
    /* Without it, it would not be. */
    int both = tcp6(), other = tcp4();
    a.sin6_port = 0;
    T(bind(both, SA(a), sizeof a));
    T(listen(both, 5));
    b = v4(port_of(both));
    T(bind(other, SA(b), sizeof b));
    /* Mapped addresses are out of bounds for a V6ONLY socket. */
    int strict = tcp6();
    MUST(setsockopt(strict, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on));
    inet_pton(AF_INET6, "::ffff:127.0.0.1", &a.sin6_addr);
    T(bind(strict, SA(a), sizeof a));
    a.sin6_port = htons(port_of(both));
    T(connect(strict, SA(a), sizeof a));
    T(setsockopt(c, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on));
    return 0;
}
