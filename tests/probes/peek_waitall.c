// MSG_PEEK with MSG_WAITALL waits for all of it.
// gap: MSG_PEEK with MSG_WAITALL
#include "probe.h"

int main(void) {
    int c, d;
    char text[16] = "";
    connected_pair(&c, &d);
    send_all(c, "abc", 3);
    settle(d, POLLIN);
    pid_t child = fork();
    if (child == 0) {
        T(recv(d, text, 6, MSG_PEEK | MSG_WAITALL));
        printf("%s\n", text);
        _exit(0);
    }
    wait_blocked(child);
    send_all(c, "def", 3);
    show_status("peeker", child);
    show_read("all still there", d);
    return 0;
}
