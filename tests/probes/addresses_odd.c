// Addresses that nobody can connect to: port 0, broadcast, multicast, no route; with the errno of each.
// net: silent
#include "probe.h"

static void attempt(const char *address) {
    int c = tcp4();
    struct sockaddr_in a = v4(9);
    inet_pton(AF_INET, address, &a.sin_addr);
    errno = 0;
    int r = connect(c, SA(a), sizeof a);
    printf("%s: %d %s\n", address, r, r ? errno_name(errno) : "");
    close(c);
}

static void attempt6(const char *address, unsigned scope) {
    int c = tcp6();
    struct sockaddr_in6 a = v6(9);
    a.sin6_scope_id = scope;
    inet_pton(AF_INET6, address, &a.sin6_addr);
    errno = 0;
    int r = connect(c, SA(a), sizeof a);
    printf("%s: %d %s\n", address, r, r ? errno_name(errno) : "");
    close(c);
}

static void bound(const char *address) {
    int c = tcp4();
    struct sockaddr_in a = v4(0);
    inet_pton(AF_INET, address, &a.sin_addr);
    errno = 0;
    int r = bind(c, SA(a), sizeof a);
    printf("bind %s: %d %s\n", address, r, r ? errno_name(errno) : "");
    close(c);
}

int main(void) {
    int c = tcp4();
    struct sockaddr_in zero = v4(0);
    T(connect(c, SA(zero), sizeof zero));
    attempt("255.255.255.255");
    attempt("224.0.0.1");
    attempt("192.0.2.1");
    attempt("240.0.0.1");
    attempt("127.255.255.255");
    attempt6("ff02::1", 0);
    attempt6("ff02::1", 1);
    attempt6("2001:db8::1", 0);
    attempt6("::ffff:192.0.2.1", 0);
    attempt6("::2", 0);
    bound("255.255.255.255");
    bound("224.0.0.1");
    bound("127.0.0.0");
    bound("127.255.255.255");
    bound("10.9.9.1");
    bound("10.9.9.2");
    bound("0.0.0.1");
    return 0;
}
