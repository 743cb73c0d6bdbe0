// The side that closes first keeps the port for a while, unless SO_REUSEADDR is set.
// gap: TIME_WAIT
#include "probe.h"

int main(void) {
    int s = listener4(), on = 1;
    MUST(setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on));
    uint16_t port = port_of(s);
    int c = client4(s), d = (int)MUST(accept(s, NULL, NULL));
    close(d);
    settle(c, POLLRDHUP);
    close(c);
    close(s);
    int again = tcp4();
    struct sockaddr_in a = v4(port);
    T(bind(again, SA(a), sizeof a));
    T(setsockopt(again, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on));
    T(bind(again, SA(a), sizeof a));
    return 0;
}
