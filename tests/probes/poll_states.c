// What poll says in each state of a connection, and with several descriptors.
#include "probe.h"

int main(void) {
    int s = listener4();
    show_poll("listener", s);
    int c = client4(s);
    settle(s, POLLIN);
    show_poll("listener, one waits", s);
    int d = (int)MUST(accept(s, NULL, NULL));
    show_poll("client", c);
    show_poll("server", d);
    send_all(c, "x", 1);
    settle(d, POLLIN);
    show_poll("server, data", d);
    show_read("server", d);
    show_poll("server, read", d);

    struct pollfd set[4] = {{.fd = c, .events = POLLIN}, {.fd = d, .events = POLLIN | POLLOUT}, {.fd = -1, .events = POLLIN}, {.fd = s, .events = POLLIN}};
    T(poll(set, 4, 0));
    for (int i = 0; i < 4; i++)
        printf("%d: %s\n", i, poll_names((unsigned short)set[i].revents));
    T(poll(set, 1, QUIET));
    close(d);
    settle(c, POLLIN);
    T(poll(set, 4, 0));
    for (int i = 0; i < 4; i++)
        printf("%d: %s\n", i, poll_names((unsigned short)set[i].revents));

    /* A poll that is already waiting wakes. */
    connected_pair(&c, &d);
    pid_t child = fork();
    if (child == 0) {
        struct pollfd p = {.fd = d, .events = POLLIN | POLLRDHUP};
        T(poll(&p, 1, SOON));
        printf("woken: %s\n", poll_names((unsigned short)p.revents));
        _exit(0);
    }
    wait_blocked(child);
    send_all(c, "wake", 4);
    show_status("waiter", child);
    return 0;
}
