// A server that goes into the background, double fork and all, keeps its listener and its connections.
#include "probe.h"

int main(void) {
    int s = listener4(), c = client4(s), d = (int)MUST(accept(s, NULL, NULL));
    struct gate over = gate();
    pid_t child = fork();
    if (child == 0) {
        setsid();
        if (fork())
            _exit(0);
        close(c);
        char text[8] = "";
        read_all(d, text, 5);
        send_all(d, text, 5);
        close(d);
        int e = (int)MUST(accept(s, NULL, NULL));
        send_all(e, "daemon", 6);
        close(e);
        close(s);
        gate_open(over);
        _exit(0);
    }
    close(d);
    show_status("first", child);
    send_all(c, "hello", 5);
    settle(c, POLLRDHUP);
    show_read("client", c);
    int e = client4(s);
    settle(e, POLLRDHUP);
    show_read("second", e);
    gate_wait(over);
    return 0;
}
