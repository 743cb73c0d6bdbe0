// What MSG_MORE and TCP_CORK hold back arrives all the same, with the next write, the uncorking, or after a moment.
#include "probe.h"

int main(void) {
    int c, d, on = 1, off = 0;
    char text[16] = "";
    connected_pair(&c, &d);
    T(send(c, "held", 4, MSG_MORE));
    T(recv(d, text, 4, MSG_WAITALL));
    T(setsockopt(c, IPPROTO_TCP, TCP_CORK, &on, sizeof on));
    send_all(c, "cork", 4);
    T(setsockopt(c, IPPROTO_TCP, TCP_CORK, &off, sizeof off));
    T(recv(d, text, 4, MSG_WAITALL));
    T(setsockopt(c, IPPROTO_TCP, TCP_CORK, &on, sizeof on));
    send_all(c, "left", 4);
    T(close(c));
    T(recv(d, text, 8, MSG_WAITALL));
    printf("%s\n", text);
    return 0;
}
