// The port of a closed listener while its connections live: with SO_REUSEADDR it can be bound again.
#include "probe.h"

static int again(const char *label, uint16_t port, int reuse) {
    int fd = tcp4(), r;
    struct sockaddr_in a = v4(port);
    MUST(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &reuse, sizeof reuse));
    errno = 0;
    r = bind(fd, SA(a), sizeof a);
    printf("%s: bind %d %s", label, r, r ? errno_name(errno) : "");
    errno = 0;
    r = r ? -1 : listen(fd, 5);
    printf(", listen %d %s\n", r, r ? errno_name(errno) : "");
    return fd;
}

int main(void) {
    int s = tcp4(), on = 1;
    struct sockaddr_in a = v4(0);
    MUST(setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on));
    MUST(bind(s, SA(a), sizeof a));
    MUST(listen(s, 5));
    uint16_t port = port_of(s);
    int c = client4(s), d = (int)MUST(accept(s, NULL, NULL));
    T(close(again("while it listens", port, 1)));
    T(close(s));
    int n = again("its connection lives", port, 1);
    /* The old connection and the new listener on one port. */
    int e = client4(n), f = TFD(accept(n, NULL, NULL));
    send_all(c, "old", 3);
    send_all(e, "new", 3);
    settle(d, POLLIN);
    settle(f, POLLIN);
    show_read("old", d);
    show_read("new", f);
    return 0;
}
