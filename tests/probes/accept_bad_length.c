// accept(2) that takes a connection and cannot say from whom: the connection is closed, in order.
#include "probe.h"

static void accept_badly(struct sockaddr *address, socklen_t len) {
    int s = listener4(), c = client4(s);
    settle(s, POLLIN);
    T(accept(s, address, &len));
    settle(c, POLLIN | POLLRDHUP);
    show_poll("client", c);
    show_read("client", c);
    close(c);
    close(s);
}

int main(void) {
    struct sockaddr_in room;
    accept_badly(SA(room), (socklen_t)-1);
    accept_badly((struct sockaddr *)1, sizeof room);
    return 0;
}
