// Two sockets bound to one source address with SO_REUSEADDR: to different servers both connect, to one only the first.
#include "probe.h"

static int from(uint16_t port) {
    int fd = tcp4(), on = 1;
    struct sockaddr_in a = v4(port);
    MUST(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on));
    T(bind(fd, SA(a), sizeof a));
    return fd;
}

int main(void) {
    int s = listener4(), t = listener4(), a = from(0), b = from(port_of(a)), c = from(port_of(a));
    struct sockaddr_in to_s = v4(port_of(s)), to_t = v4(port_of(t));
    T(connect(a, SA(to_s), sizeof to_s));
    T(connect(b, SA(to_t), sizeof to_t));
    T(connect(c, SA(to_s), sizeof to_s));
    int d = TFD(accept(s, NULL, NULL)), e = TFD(accept(t, NULL, NULL));
    show_names("a", a);
    show_names("b", b);
    show_names("d", d);
    show_names("e", e);
    send_all(a, "to s", 4);
    send_all(b, "to t", 4);
    settle(d, POLLIN);
    settle(e, POLLIN);
    show_read("d", d);
    show_read("e", e);
    return 0;
}
