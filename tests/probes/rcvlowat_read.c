// SO_RCVLOWAT: a blocking read waits for that many bytes, or for the end.
#include "probe.h"

int main(void) {
    int c, d, many = 10;
    char text[32];
    connected_pair(&c, &d);
    struct gate first = gate();
    T(setsockopt(d, SOL_SOCKET, SO_RCVLOWAT, &many, sizeof many));
    pid_t child = fork();
    if (child == 0) {
        close(c);
        T(recv(d, text, sizeof text, 0));
        gate_open(first);
        T(recv(d, text, sizeof text, 0));
        T(recv(d, text, sizeof text, 0));
        _exit(0);
    }
    wait_blocked(child);
    send_all(c, "few", 3);
    wait_blocked(child);
    send_all(c, "and many", 8);
    gate_wait(first);
    send_all(c, "last", 4);
    close(c);
    show_status("reader", child);
    return 0;
}
