// select's three sets in the states that servers and clients wait for.
#include "probe.h"

static void show_select(const char *label, int fd, long ms) {
    fd_set r, w, x;
    struct timeval limit = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};
    FD_ZERO(&r);
    FD_ZERO(&w);
    FD_ZERO(&x);
    FD_SET(fd, &r);
    FD_SET(fd, &w);
    FD_SET(fd, &x);
    int n = select(fd + 1, &r, &w, &x, &limit);
    printf("%s: select = %d:%s%s%s\n", label, n, FD_ISSET(fd, &r) ? " read" : "", FD_ISSET(fd, &w) ? " write" : "",
           FD_ISSET(fd, &x) ? " except" : "");
}

int main(void) {
    int s = listener4(), holder;
    show_select("listener", s, 0);
    int c = (int)MUST(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
    struct sockaddr_in a = v4(port_of(s));
    T(connect(c, SA(a), sizeof a));
    show_select("connecting", c, SOON);
    show_error("connecting", c);
    settle(s, POLLIN);
    show_select("listener, one waits", s, 0);
    int d = (int)MUST(accept(s, NULL, NULL));
    show_select("server", d, 0);
    send_all(c, "x", 1);
    settle(d, POLLIN);
    show_select("server, data", d, 0);
    show_read("server", d);
    T(close(c));
    settle(d, POLLIN);
    show_select("server, ended", d, 0);

    struct sockaddr_in closed = v4(closed_port(&holder));
    int r = (int)MUST(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
    connect(r, SA(closed), sizeof closed);
    settle(r, POLLERR);
    show_select("refused", r, SOON);
    show_error("refused", r);
    return 0;
}
