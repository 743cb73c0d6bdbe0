// Sending without a copy.
// gap: MSG_ZEROCOPY and TCP_ZEROCOPY_RECEIVE
#include "probe.h"

int main(void) {
    int c, d, on = 1;
    connected_pair(&c, &d);
    T(setsockopt(c, SOL_SOCKET, SO_ZEROCOPY, &on, sizeof on));
    T(send(c, "zero", 4, MSG_ZEROCOPY | MSG_NOSIGNAL));
    T(mmap(NULL, 4096, PROT_READ, MAP_SHARED, d, 0) == MAP_FAILED ? -1 : 0);
    return 0;
}
