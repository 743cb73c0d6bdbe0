// Reading and writing a socket that listens.
// gap: The errno of read and write on an unconnected socket
#include "probe.h"

int main(void) {
    int s = listener4();
    nonblocking(s);
    show_read("listener", s);
    T(send(s, "x", 1, MSG_NOSIGNAL));
    int queued = 0;
    T(ioctl(s, FIONREAD, &queued));
    return 0;
}
