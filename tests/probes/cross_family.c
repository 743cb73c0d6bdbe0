// IPv6 sockets bound to one kind of address and connecting to another.
#include "probe.h"

static void pair_of(const char *source, const char *target, uint16_t port) {
    int c = tcp6();
    struct sockaddr_in6 a = {.sin6_family = AF_INET6}, b = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    inet_pton(AF_INET6, source, &a.sin6_addr);
    inet_pton(AF_INET6, target, &b.sin6_addr);
    printf("%s to %s: ", source, target);
    if (bind(c, SA(a), sizeof a) < 0) {
        printf("bind %s\n", errno_name(errno));
        return;
    }
    errno = 0;
    int r = connect(c, SA(b), sizeof b);
    printf("%d %s\n", r, r ? errno_name(errno) : "");
    show_names("client", c);
    close(c);
}

int main(void) {
    int s = tcp6();
    struct sockaddr_in6 any = {.sin6_family = AF_INET6};
    MUST(bind(s, SA(any), sizeof any));
    MUST(listen(s, 50));
    uint16_t port = port_of(s);
    const char *addresses[] = {"::", "::1", "::ffff:127.0.0.1", "::ffff:0.0.0.0"};
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 4; j++)
            pair_of(addresses[i], addresses[j], port);
    return 0;
}
