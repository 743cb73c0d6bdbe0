// MSG_TRUNC throws bytes away and leaves the buffer alone (tcp(7)).
// gap: MSG_TRUNC
#include "probe.h"

int main(void) {
    int c, d;
    char text[9] = "untouche";
    connected_pair(&c, &d);
    send_all(c, "abcdefgh", 8);
    settle(d, POLLIN);
    T(recv(d, text, 3, MSG_TRUNC));
    printf("%s\n", text);
    show_read("rest", d);
    return 0;
}
