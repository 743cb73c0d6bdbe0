// listen() in every state.
#include "probe.h"

int main(void) {
    int s = tcp4();
    T(listen(s, 5));
    T(listen(s, 1));
    T(listen(s, 0));
    T(listen(s, -1));
    T(listen(s, 1000000));
    struct sockaddr_in a = v4(0);
    T(bind(s, SA(a), sizeof a));
    T(listen(-1, 5));
    T(listen(1000, 5));
    T(listen(0, 5));
    int udp = (int)MUST(socket(AF_INET, SOCK_DGRAM, 0));
    T(listen(udp, 5));
    int c, d;
    connected_pair(&c, &d);
    T(listen(c, 5));
    T(listen(d, 5));
    a = v4(port_of(s));
    T(connect(s, SA(a), sizeof a));
    show_names("listener", s);
    show_poll("listener", s);
    return 0;
}
