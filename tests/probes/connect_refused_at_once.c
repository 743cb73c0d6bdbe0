// A closed port says so within a round trip, long before an attempt is given up.
#include "probe.h"

int main(void) {
    int holder;
    struct sockaddr_in closed = v4(closed_port(&holder));
    for (int i = 0; i < 5; i++) {
        int c = tcp4();
        unsigned patience = 400;
        T(setsockopt(c, IPPROTO_TCP, TCP_USER_TIMEOUT, &patience, sizeof patience));
        T(connect(c, SA(closed), sizeof closed));
        close(c);
    }
    return 0;
}
