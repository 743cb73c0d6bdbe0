// Reading and writing a socket that listens.
// gap: Sockets that are bound or listen
#include "probe.h"

int main(void) {
    int s = listener4();
    nonblocking(s);
    show_read("listener", s);
    T(send(s, "x", 1, MSG_NOSIGNAL));
    return 0;
}
