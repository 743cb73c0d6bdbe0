// Thousands of rounds of one byte each way: no wake-up lost.
#include "probe.h"

enum { ROUNDS = 5000 };

int main(void) {
    int c, d, rounds = 0;
    connected_pair(&c, &d);
    pid_t child = fork();
    if (child == 0) {
        char byte;
        close(c);
        while (read_all(d, &byte, 1) == 1)
            send_all(d, &byte, 1);
        _exit(0);
    }
    close(d);
    for (char byte = 'a', back = 0; rounds < ROUNDS; rounds++) {
        send_all(c, &byte, 1);
        struct pollfd p = {.fd = c, .events = POLLIN};
        if (poll(&p, 1, SOON) != 1 || read_all(c, &back, 1) != 1 || back != byte)
            break;
    }
    printf("rounds: %d\n", rounds);
    close(c);
    show_status("echo", child);
    return 0;
}
