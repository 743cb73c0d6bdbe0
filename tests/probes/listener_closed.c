// A closed listener refuses new connections and keeps the accepted ones; those not accepted are reset.
#include "probe.h"

int main(void) {
    int s = listener4();
    struct sockaddr_in a = v4(port_of(s));
    int kept = client4(s);
    int d = TFD(accept(s, NULL, NULL));
    int waiting = client4(s);
    settle(s, POLLIN);
    T(close(s));
    settle(waiting, POLLIN | POLLHUP);
    show_read("not accepted", waiting);
    show_read("not accepted", waiting);
    int late = tcp4();
    T(connect(late, SA(a), sizeof a));
    send_all(kept, "still here", 10);
    settle(d, POLLIN);
    show_read("server", d);
    send_all(d, "so am I", 7);
    settle(kept, POLLIN);
    show_read("client", kept);
    T(close(d));
    settle(kept, POLLIN);
    show_read("client", kept);
    return 0;
}
