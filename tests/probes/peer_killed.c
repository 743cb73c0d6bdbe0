// A peer process that is killed: its kernel closes, with a reset if it left data unread.
#include "probe.h"

int main(void) {
    for (int unread = 0; unread < 2; unread++) {
        int c, d;
        connected_pair(&c, &d);
        struct gate ready = gate();
        pid_t child = fork();
        if (child == 0) {
            close(c);
            send_all(d, "said", 4);
            if (unread)
                settle(d, POLLIN);
            gate_open(ready);
            for (;;)
                pause();
        }
        close(d);
        if (unread)
            send_all(c, "not heard", 9);
        gate_wait(ready);
        settle(c, POLLIN);
        show_read("client", c);
        kill(child, SIGKILL);
        show_status("peer", child);
        settle(c, POLLIN);
        if (unread)
            settle(c, POLLERR);
        show_read("client", c);
        close(c);
    }
    return 0;
}
