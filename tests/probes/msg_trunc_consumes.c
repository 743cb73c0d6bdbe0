// MSG_TRUNC consumes what it counts.
#include "probe.h"

int main(void) {
    int c, d;
    char text[9] = "";
    connected_pair(&c, &d);
    send_all(c, "abcdefgh", 8);
    settle(d, POLLIN);
    T(recv(d, text, 3, MSG_TRUNC));
    T(recv(d, text, 2, MSG_TRUNC | MSG_PEEK));
    show_read("rest", d);
    return 0;
}
