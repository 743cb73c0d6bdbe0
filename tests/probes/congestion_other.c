// Another congestion controller for one connection.
// gap: TCP_CONGESTION
#include "probe.h"

int main(void) {
    int c = tcp4();
    T(setsockopt(c, IPPROTO_TCP, TCP_CONGESTION, "reno", 4));
    return 0;
}
