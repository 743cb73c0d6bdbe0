// A connect that takes data along.
// gap: MSG_FASTOPEN and TCP_FASTOPEN_CONNECT
#include "probe.h"

int main(void) {
    int s = listener4(), c = tcp4(), e = tcp4(), on = 1;
    struct sockaddr_in a = v4(port_of(s));
    T(sendto(c, "early", 5, MSG_FASTOPEN | MSG_NOSIGNAL, SA(a), sizeof a));
    T(setsockopt(e, IPPROTO_TCP, TCP_FASTOPEN_CONNECT, &on, sizeof on));
    return 0;
}
