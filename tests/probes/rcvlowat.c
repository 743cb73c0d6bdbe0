// SO_RCVLOWAT: poll waits for that many bytes.
// gap: SO_RCVLOWAT and readiness
#include "probe.h"

int main(void) {
    int c, d, many = 10;
    connected_pair(&c, &d);
    struct pollfd p = {.fd = d, .events = POLLIN};
    T(setsockopt(d, SOL_SOCKET, SO_RCVLOWAT, &many, sizeof many));
    send_all(c, "few", 3);
    T(poll(&p, 1, 200));
    send_all(c, "and many", 8);
    T(poll(&p, 1, SOON));
    return 0;
}
