// Linux still delivers what arrives after shutdown(SHUT_RD).
// gap: Data that arrives after shutdown(SHUT_RD)
#include "probe.h"

int main(void) {
    int c, d, pending = 0;
    connected_pair(&c, &d);
    T(shutdown(c, SHUT_RD));
    T(send(d, "late", 4, MSG_NOSIGNAL));
    for (int i = 0; i < 50 && pending != 4; i++) {
        poll(NULL, 0, 2);
        MUST(ioctl(c, FIONREAD, &pending));
    }
    show_read("client", c);
    show_read("client", c);
    return 0;
}
