// UNIX, UDP and netlink sockets are none of quicwrap's business and behave as always.
#include "probe.h"

static int value(int fd, int name) {
    int v = -1;
    socklen_t len = sizeof v;
    getsockopt(fd, SOL_SOCKET, name, &v, &len);
    return v;
}

int main(void) {
    int pair[2];
    T(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    printf("domain %d type %d\n", value(pair[0], SO_DOMAIN), value(pair[0], SO_TYPE));
    send_all(pair[0], "unix", 4);
    show_read("unix", pair[1]);
    T(listen(pair[0], 5));

    int s = TFD(socket(AF_UNIX, SOCK_STREAM, 0)), c = TFD(socket(AF_UNIX, SOCK_STREAM, 0));
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    snprintf(a.sun_path + 1, sizeof a.sun_path - 1, "quicwrap-probe-%d", getpid());
    T(bind(s, SA(a), sizeof a));
    T(listen(s, 5));
    T(connect(c, SA(a), sizeof a));
    int d = TFD(accept(s, NULL, NULL));
    send_all(c, "abstract", 8);
    show_read("unix server", d);
    int one = 1;
    T(setsockopt(d, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one));

    int u = TFD(socket(AF_INET, SOCK_DGRAM, 0)), v = TFD(socket(AF_INET, SOCK_DGRAM, 0));
    struct sockaddr_in b = v4(0), from;
    socklen_t len = sizeof from;
    T(bind(u, SA(b), sizeof b));
    b = v4(port_of(u));
    T(connect(v, SA(b), sizeof b));
    T(send(v, "datagram", 8, 0));
    char text[32];
    T(recvfrom(u, text, sizeof text, 0, SA(from), &len));
    show_names("udp", v);
    T(accept(u, NULL, NULL));
    TFD(socket(AF_NETLINK, SOCK_RAW, 0));

    /* TCP and UDP on one port of another number do not meet. */
    int t = tcp4();
    struct sockaddr_in any = v4(0);
    T(bind(t, SA(any), sizeof any));
    printf("tcp domain %d\n", value(t, SO_DOMAIN));
    return 0;
}
