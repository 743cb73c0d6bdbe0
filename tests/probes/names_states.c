// getsockname and getpeername in every state of a socket's life.
#include "probe.h"

int main(void) {
    int s = tcp4(), c = tcp4(), holder;
    struct sockaddr_in a = v4(0);
    show_names("new", s);
    MUST(bind(s, SA(a), sizeof a));
    show_names("bound", s);
    MUST(listen(s, 5));
    show_names("listening", s);
    a = v4(port_of(s));
    MUST(connect(c, SA(a), sizeof a));
    show_names("client", c);
    int d = TFD(accept(s, NULL, NULL));
    show_names("server", d);
    T(shutdown(c, SHUT_WR));
    settle(d, POLLIN);
    show_names("client, sending ended", c);
    show_names("server, receiving ended", d);
    T(close(c));
    show_names("server, client still half open", d);
    T(close(s));
    show_names("server, listener closed", d);

    int r = tcp4();
    struct sockaddr_in closed = v4(closed_port(&holder));
    T(connect(r, SA(closed), sizeof closed));
    struct sockaddr_storage peer;
    socklen_t len = sizeof peer;
    T(getpeername(r, SA(peer), &len));

    T(getsockname(-1, SA(peer), &len));
    T(getpeername(-1, SA(peer), &len));
    T(getsockname(1000, SA(peer), &len));
    T(getsockname(0, SA(peer), &len));
    T(getpeername(0, SA(peer), &len));
    return 0;
}
