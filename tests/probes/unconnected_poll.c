// poll on a socket that is not connected: OUT and HUP at once, as TCP has it.
// gap: Readiness of an unconnected socket
#include "probe.h"

int main(void) {
    int fresh = tcp4(), bound = tcp4(), refused = tcp4(), holder;
    struct sockaddr_in a = v4(0);
    show_poll("new", fresh);
    T(bind(bound, SA(a), sizeof a));
    show_poll("bound", bound);
    struct sockaddr_in closed = v4(closed_port(&holder));
    T(connect(refused, SA(closed), sizeof closed));
    show_poll("refused", refused);
    return 0;
}
