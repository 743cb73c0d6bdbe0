// SO_REUSEPORT: each worker binds and listens for itself; every client is served by one of them.
#include "probe.h"

enum { WORKERS = 3, CLIENTS = 30 };

static int share(uint16_t port) {
    int fd = tcp4(), on = 1;
    struct sockaddr_in a = v4(port);
    MUST(setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on));
    MUST(bind(fd, SA(a), sizeof a));
    return fd;
}

static void worker(uint16_t port, struct gate ready) {
    int s = share(port);
    MUST(listen(s, 64));
    gate_open(ready);
    for (;;) {
        char byte;
        int fd = accept(s, NULL, NULL);
        if (read_all(fd, &byte, 1) == 1)
            send_all(fd, &byte, 1);
        close(fd);
    }
}

int main(void) {
    int first = share(0), right = 0;
    uint16_t port = port_of(first);
    pid_t pids[WORKERS];
    struct gate ready = gate();
    for (int i = 0; i < WORKERS; i++)
        if ((pids[i] = fork()) == 0)
            worker(port, ready);
    for (int i = 0; i < WORKERS; i++)
        gate_wait(ready);
    for (int i = 0; i < CLIENTS; i++) {
        struct sockaddr_in a = v4(port);
        char sent = (char)('a' + i), back = 0;
        int c = tcp4();
        MUST(connect(c, SA(a), sizeof a));
        send_all(c, &sent, 1);
        right += read_all(c, &back, 1) == 1 && back == sent;
        close(c);
    }
    printf("served %d\n", right);
    /* Without the option, or with it on one side only, the port is taken. */
    int plain = tcp4();
    struct sockaddr_in a = v4(port);
    T(bind(plain, SA(a), sizeof a));
    for (int i = 0; i < WORKERS; i++) {
        kill(pids[i], SIGKILL);
        show_status("worker", pids[i]);
    }
    return 0;
}
