// Flags of send and recv: MORE, EOR, CONFIRM, DONTROUTE, WAITALL with PEEK and DONTWAIT, CMSG_CLOEXEC, ERRQUEUE, unknown.
#include "probe.h"

int main(void) {
    int c, d;
    char text[32] = "";
    connected_pair(&c, &d);
    T(send(c, "more", 4, MSG_MORE));
    T(send(c, "done", 4, 0));
    settle_bytes(d, 8);
    T(recv(d, text, 8, MSG_PEEK));
    printf("%s\n", text);
    T(recv(d, text, 20, MSG_PEEK | MSG_DONTWAIT | MSG_WAITALL));
    T(recv(d, text, 20, MSG_DONTWAIT | MSG_WAITALL));
    T(recv(d, text, 20, MSG_DONTWAIT | MSG_WAITALL));
    T(send(c, "a", 1, MSG_EOR));
    T(send(c, "b", 1, MSG_CONFIRM));
    T(send(c, "c", 1, MSG_DONTROUTE));
    T(send(c, "d", 1, 0x100000));
    T(recv(d, text, 4, MSG_WAITALL));
    T(send(c, "e", 1, MSG_MORE));
    T(shutdown(c, SHUT_WR));
    settle(d, POLLRDHUP);
    T(recv(d, text, 4, MSG_CMSG_CLOEXEC | MSG_NOSIGNAL));
    T(recv(d, text, 4, 0));
    T(recv(d, text, 4, MSG_WAITALL));
    T(recv(d, text, 4, MSG_PEEK));
    T(recv(c, text, 4, MSG_ERRQUEUE));
    T(recv(c, text, 4, MSG_ERRQUEUE | MSG_DONTWAIT));
    return 0;
}
