// connect after SO_ERROR has told of a failure: ECONNABORTED once, then a new attempt.
#include "probe.h"

int main(void) {
    int holder;
    struct sockaddr_in closed = v4(closed_port(&holder));
    int c = (int)MUST(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
    connect(c, SA(closed), sizeof closed);
    settle(c, POLLERR | POLLHUP);
    show_error("refused", c);
    T(connect(c, SA(closed), sizeof closed));

    int s = tcp4(), flags = fcntl(c, F_GETFL);
    struct sockaddr_in a = v4(0);
    MUST(bind(s, SA(a), sizeof a));
    MUST(listen(s, 1));
    a = v4(port_of(s));
    MUST(fcntl(c, F_SETFL, flags & ~O_NONBLOCK));
    T(connect(c, SA(a), sizeof a));
    show_names("in the end", c);
    return 0;
}
