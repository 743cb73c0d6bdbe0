// Values that are shorter or longer than an int; IPV6_V6ONLY of an address that is bound; SO_INCOMING_CPU that is set on a
// connection; accept(2) with no room for an address; SO_BINDTODEVICE without a device; values that are nowhere.
#include "probe.h"

static void lengths(const char *what, int fd, int level, int name) {
    for (socklen_t given = 0; given <= 6; given++) {
        unsigned char bytes[8];
        socklen_t length = given;
        memset(bytes, 0xee, sizeof bytes);
        int r = getsockopt(fd, level, name, bytes, &length);
        printf("%s, option %d, %u: %d, length %u: %d %d %d %d %d\n", what, name, given, r, length, bytes[0], bytes[1], bytes[2],
               bytes[3], bytes[4]);
    }
}

static void only(const char *address) {
    int fd = tcp6(), value = -1;
    socklen_t length = sizeof value;
    struct sockaddr_in6 a = v6(0);
    MUST(inet_pton(AF_INET6, address, &a.sin6_addr));
    MUST(bind(fd, SA(a), sizeof a));
    T(getsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &value, &length));
    printf("%s alone: %d\n", address, value);
    MUST(listen(fd, 5));
    if (strcmp(address, "::1") == 0) {
        a = v6(port_of(fd));
        int c = tcp6();
        MUST(connect(c, SA(a), sizeof a));
        int d = (int)MUST(accept(fd, NULL, NULL));
        MUST(getsockopt(d, IPPROTO_IPV6, IPV6_V6ONLY, &value, &length));
        printf("accepted: %d\n", value);
        MUST(getsockopt(c, IPPROTO_IPV6, IPV6_V6ONLY, &value, &length));
        printf("connected: %d\n", value);
        close(c);
        close(d);
    }
    close(fd);
}

static void without_room(int listener) {
    void *pointers[] = {NULL, (void *)8, (void *)-1, (void *)(1UL << 63)};
    for (int round = 0; round < 3; round++)
        for (size_t i = 0; i < sizeof pointers / sizeof *pointers; i++) {
            int c = client4(listener);
            socklen_t length = 0;
            errno = 0;
            int fd = accept4(listener, pointers[i], &length, 0);
            printf("accepted %d %s, length %u\n", fd >= 0, errno_name(errno), pointers[i] ? length : 0);
            close(fd);
            close(c);
        }
}

static void no_device(int fd) {
    static const char none[16];
    T(setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, NULL, 0));
    T(setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, NULL, 1));
    T(setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, none, 1));
    T(setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, none, 3));
    T(setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, none, sizeof none));
}

static void nowhere(void) {
    int fd = tcp6();
    void *pointers[] = {NULL, (void *)8};
    for (size_t i = 0; i < sizeof pointers / sizeof *pointers; i++)
        for (socklen_t length = 0; length <= 9; length++) {
            T(setsockopt(fd, SOL_SOCKET, SO_LINGER, pointers[i], length));
            T(setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, pointers[i], length));
            T(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, pointers[i], length));
            T(setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, pointers[i], length));
            T(setsockopt(fd, IPPROTO_IPV6, IPV6_UNICAST_HOPS, pointers[i], length));
        }
    close(fd);
}

int main(void) {
    int c, d, listener = listener4(), processor = 100;
    socklen_t length = sizeof processor;
    connected_pair(&c, &d);
    static const int names[] = {IP_TOS, IP_TTL, IP_MTU_DISCOVER, IP_RECVERR, IP_FREEBIND};
    for (int round = 0; round < 2; round++)
        for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
            lengths("new", listener, IPPROTO_IP, names[i]);
            lengths("connected", c, IPPROTO_IP, names[i]);
        }
    lengths("TCP", c, IPPROTO_TCP, TCP_KEEPCNT);
    lengths("socket", c, SOL_SOCKET, SO_DOMAIN);
    only("::1");
    only("::");
    only("::ffff:127.0.0.1");
    without_room(listener);
    no_device(listener);
    no_device(c);
    nowhere();
    MUST(setsockopt(d, SOL_SOCKET, SO_INCOMING_CPU, &processor, length));
    processor = -1;
    T(getsockopt(d, SOL_SOCKET, SO_INCOMING_CPU, &processor, &length));
    printf("processor %d\n", processor);
    /* Before there is a connection it is another matter. */
    processor = 100;
    MUST(setsockopt(listener, SOL_SOCKET, SO_INCOMING_CPU, &processor, length));
    struct sockaddr_in a = v4(port_of(listener));
    c = tcp4();
    MUST(setsockopt(c, SOL_SOCKET, SO_INCOMING_CPU, &processor, length));
    MUST(connect(c, SA(a), sizeof a));
    d = (int)MUST(accept(listener, NULL, NULL));
    int fds[] = {listener, c, d};
    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++) {
        MUST(getsockopt(fds[i], SOL_SOCKET, SO_INCOMING_CPU, &processor, &length));
        printf("as set: %d, one that there is: %d\n", processor == 100, processor >= 0 && processor < sysconf(_SC_NPROCESSORS_CONF));
    }
    return 0;
}
