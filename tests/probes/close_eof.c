// close after everything has been read: end of data for the peer, nothing lost.
#include "probe.h"

int main(void) {
    int c, d;
    connected_pair(&c, &d);
    send_all(c, "all of it", 9);
    T(close(c));
    settle(d, POLLIN | POLLRDHUP);
    show_poll("server", d);
    show_read("server", d);
    show_read("server", d);
    show_read("server", d);
    show_error("server", d);
    /* The reading side closes too: nothing remains. */
    T(close(d));
    T(close(d));
    T(read(d, &c, 1));

    /* Closed by the server, in the middle of a blocking read of the client. */
    connected_pair(&c, &d);
    pid_t child = fork();
    if (child == 0) {
        close(d);
        show_read("client", c);
        _exit(0);
    }
    wait_blocked(child);
    close(d);
    show_status("reader", child);
    return 0;
}
