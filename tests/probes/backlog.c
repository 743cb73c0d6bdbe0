// Clients connect and send while nobody accepts; all are served in the end, in order.
#include "probe.h"

enum { COUNT = 30 };

int main(void) {
    int s = listener4(), c[COUNT], ordered = 0;
    for (int i = 0; i < COUNT; i++) {
        c[i] = client4(s);
        send_all(c[i], &i, sizeof i);
    }
    for (int i = 0; i < COUNT; i++) {
        int got = -1, d = (int)MUST(accept(s, NULL, NULL));
        read_all(d, &got, sizeof got);
        ordered += got == i;
        close(d);
    }
    printf("served in order: %d\n", ordered);
    nonblocking(s);
    T(accept(s, NULL, NULL));

    /* A client that left before it was accepted is still accepted; its data and its end are there. */
    int gone = client4(s);
    send_all(gone, "was here", 8);
    close(gone);
    settle(s, POLLIN);
    int d = TFD(accept(s, NULL, NULL));
    settle(d, POLLRDHUP);
    show_read("server", d);
    show_read("server", d);
    return 0;
}
