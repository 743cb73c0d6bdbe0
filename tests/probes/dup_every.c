// dup, dup2, dup3 and F_DUPFD of a socket in each state; numbers replaced while in use.
#include "probe.h"

int main(void) {
    int s = listener4(), c = client4(s), d = (int)MUST(accept(s, NULL, NULL)), e, f;
    T(dup2(c, c));
    T(dup3(c, c, 0));
    T(dup2(c, -1));
    T(dup2(c, 1 << 30));
    T(dup3(c, 90, 12345));
    T(fcntl(c, F_DUPFD, 120));
    T(fcntl(c, F_DUPFD_CLOEXEC, 121));
    printf("cloexec %d\n", fcntl(121, F_GETFD));
    /* A number that held one connection comes to hold another. */
    connected_pair(&e, &f);
    T(dup2(e, 120) == 120 ? 0 : -1);
    send_all(120, "e", 1);
    settle(f, POLLIN);
    show_read("f", f);
    /* The old one ends only with its last copy. */
    close(c);
    show_poll("d", d);
    close(121);
    settle(d, POLLRDHUP);
    show_read("d", d);
    /* A listener under a connection's number, and the other way round. */
    int copy = (int)MUST(dup2(s, e));
    int g = client4(copy);
    TFD(accept(e, NULL, NULL));
    MUST(dup2(120, s));
    show_names("was the listener", s);
    close(copy);
    struct sockaddr_in a;
    socklen_t len = sizeof a;
    MUST(getpeername(g, SA(a), &len));
    int h = tcp4();
    T(connect(h, SA(a), sizeof a));
    return 0;
}
