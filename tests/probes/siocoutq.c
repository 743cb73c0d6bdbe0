// What has been sent and not acknowledged, and what has not been sent.
// gap: SIOCOUTQ
#include "probe.h"

int main(void) {
    int c, d, n = -1;
    connected_pair(&c, &d);
    send_all(c, "four", 4);
    settle(d, POLLIN);
    T(ioctl(c, 0x894B /* SIOCOUTQNSD */, &n));
    printf("not sent %d\n", n);
    return 0;
}
