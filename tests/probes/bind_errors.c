// What bind refuses, in the kernel's order of checks.
#include "probe.h"

int main(void) {
    int s = tcp4(), six = tcp6();
    struct sockaddr_in a = v4(0);
    T(bind(s, SA(a), 2));
    T(bind(s, SA(a), sizeof a - 1));
    T(bind(s, SA(a), 0));
    T(bind(s, SA(a), -1));
    T(bind(s, SA(a), 129));
    T(bind(s, SA(a), 1 << 30));
    T(bind(s, NULL, sizeof a));
    T(bind(s, (void *)1, sizeof a));
    T(bind(s, (void *)-4096L, sizeof a));
    T(bind(-1, SA(a), sizeof a));
    T(bind(1000, SA(a), sizeof a));
    T(bind(0, SA(a), sizeof a));
    a.sin_family = AF_INET6;
    T(bind(s, SA(a), sizeof a));
    a.sin_family = 77;
    T(bind(s, SA(a), sizeof a));
    struct sockaddr_un path = {.sun_family = AF_UNIX, .sun_path = "/nowhere"};
    T(bind(s, SA(path), sizeof path));
    a = v4(0);
    T(bind(six, SA(a), sizeof a));
    struct sockaddr_in6 b = v6(0);
    T(bind(six, SA(b), sizeof b - 5));
    T(bind(six, SA(b), 16));
    T(bind(s, SA(b), sizeof b));
    inet_pton(AF_INET6, "2001:db8::1", &b.sin6_addr);
    T(bind(six, SA(b), sizeof b));
    inet_pton(AF_INET, "192.0.2.1", &a.sin_addr);
    T(bind(s, SA(a), sizeof a));
    /* AF_UNSPEC with the wildcard address is taken for AF_INET, for old programs. */
    int u = tcp4();
    struct sockaddr_in unspec = {.sin_family = AF_UNSPEC};
    T(bind(u, SA(unspec), sizeof unspec));
    show_names("unspec", u);
    a = v4(0);
    T(bind(u, SA(a), sizeof a));
    /* A longer buffer than needed is fine. */
    struct sockaddr_storage big = {0};
    a = v4(0);
    memcpy(&big, &a, sizeof a);
    int t = tcp4();
    T(bind(t, SA(big), sizeof big));
    T(bind(t, SA(a), sizeof a));
    show_names("t", t);
    return 0;
}
