// Bound in the parent, listening in each child, as gunicorn's relatives do; children come and go.
#include "probe.h"

enum { WORKERS = 3, CLIENTS = 24 };

int main(void) {
    int s = tcp4(), right = 0;
    struct sockaddr_in a = v4(0);
    struct gate ready = gate();
    pid_t pids[WORKERS];
    MUST(bind(s, SA(a), sizeof a));
    a = v4(port_of(s));
    for (int i = 0; i < WORKERS; i++)
        if ((pids[i] = fork()) == 0) {
            MUST(listen(s, 16 + i));
            gate_open(ready);
            for (;;) {
                char byte;
                int fd = accept(s, NULL, NULL);
                if (read_all(fd, &byte, 1) == 1)
                    send_all(fd, &byte, 1);
                close(fd);
            }
        }
    for (int i = 0; i < WORKERS; i++)
        gate_wait(ready);
    close(s);
    for (int i = 0; i < CLIENTS; i++) {
        char back = 0;
        int c = tcp4();
        MUST(connect(c, SA(a), sizeof a));
        send_all(c, "x", 1);
        right += read_all(c, &back, 1) == 1;
        close(c);
        if (i % 8 == 7) {
            kill(pids[i / 8], SIGKILL);
            show_status("worker", pids[i / 8]);
        }
    }
    printf("served %d\n", right);
    return 0;
}
