// MSG_PEEK again and again, with growing data, and SO_PEEK_OFF.
#include "probe.h"

int main(void) {
    int c, d, at = 2, got = -5;
    char text[16] = "";
    socklen_t len = sizeof got;
    connected_pair(&c, &d);
    send_all(c, "abc", 3);
    settle(d, POLLIN);
    for (int i = 0; i < 3; i++)
        T(recv(d, text, sizeof text, MSG_PEEK));
    send_all(c, "def", 3);
    settle_bytes(d, 6);
    T(recv(d, text, 6, MSG_PEEK));
    printf("%s\n", text);
    T(recv(d, text, 2, 0));
    T(recv(d, text, sizeof text, MSG_PEEK));
    T(getsockopt(d, SOL_SOCKET, SO_PEEK_OFF, &got, &len));
    printf("offset %d\n", got);
    T(setsockopt(d, SOL_SOCKET, SO_PEEK_OFF, &at, sizeof at));
    memset(text, 0, sizeof text);
    T(recv(d, text, 1, MSG_PEEK));
    printf("%s\n", text);
    T(recv(d, text, 1, MSG_PEEK));
    printf("%s\n", text);
    T(recv(d, text, 1, 0));
    printf("%s\n", text);
    T(getsockopt(d, SOL_SOCKET, SO_PEEK_OFF, &got, &len));
    printf("offset %d\n", got);
    return 0;
}
