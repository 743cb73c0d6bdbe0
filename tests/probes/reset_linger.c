// SO_LINGER with time 0 makes close a reset.
#include "probe.h"

int main(void) {
    int c, d;
    struct linger hard = {.l_onoff = 1, .l_linger = 0}, soft = {.l_onoff = 1, .l_linger = 5}, got = {0};
    socklen_t len = sizeof got;
    connected_pair(&c, &d);
    T(getsockopt(d, SOL_SOCKET, SO_LINGER, &got, &len));
    printf("linger %d %d\n", got.l_onoff, got.l_linger);
    T(setsockopt(d, SOL_SOCKET, SO_LINGER, &hard, sizeof hard));
    T(getsockopt(d, SOL_SOCKET, SO_LINGER, &got, &len));
    printf("linger %d %d\n", got.l_onoff, got.l_linger);
    T(close(d));
    settle(c, POLLERR | POLLHUP);
    show_poll("client", c);
    show_read("client", c);
    show_read("client", c);

    /* A dup keeps it alive; the reset comes with the last close. */
    connected_pair(&c, &d);
    MUST(setsockopt(d, SOL_SOCKET, SO_LINGER, &hard, sizeof hard));
    int copy = dup(d);
    T(close(d));
    poll_now(c, QUIET);
    show_poll("client", c);
    T(close(copy));
    settle(c, POLLERR);
    show_read("client", c);

    /* With a time it is an ordinary end. */
    connected_pair(&c, &d);
    T(setsockopt(d, SOL_SOCKET, SO_LINGER, &soft, sizeof soft));
    send_all(d, "bye", 3);
    T(close(d));
    settle(c, POLLIN | POLLRDHUP);
    show_read("client", c);
    show_read("client", c);
    return 0;
}
