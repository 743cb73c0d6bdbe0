// A reader that never reads does not hold up another connection to the same server.
#include "probe.h"

enum { SIZE = 8 << 20 };

int main(void) {
    int s = listener4();
    static char block[65536], got[SIZE];
    int stalled = client4(s), deaf = (int)MUST(accept(s, NULL, NULL));
    int c = client4(s), d = (int)MUST(accept(s, NULL, NULL));
    nonblocking(stalled);
    for (struct pollfd p = {.fd = stalled, .events = POLLOUT}; poll(&p, 1, 300) == 1;)
        while (write(stalled, block, sizeof block) > 0)
            ;
    printf("full\n");
    pid_t child = fork();
    if (child == 0) {
        for (int i = 0; i < SIZE; i += (int)sizeof block)
            send_all(c, block, sizeof block);
        _exit(0);
    }
    printf("the other moved: %d\n", read_all(d, got, SIZE) == SIZE);
    show_status("sender", child);
    /* New connections come through as well. */
    int e = client4(s);
    int f = TFD(accept(s, NULL, NULL));
    send_all(e, "fine", 4);
    settle(f, POLLIN);
    show_read("new one", f);
    show_poll("stalled", stalled);
    close(deaf);
    return 0;
}
