// Several processes accept on one inherited listener, as prefork servers do.
#include "probe.h"

enum { WORKERS = 4, CLIENTS = 40 };

static void worker(int listener) {
    for (;;) {
        int fd = accept(listener, NULL, NULL);
        char word[5];
        if (fd < 0)
            _exit(1);
        if (read_all(fd, word, 4) == 4)
            send_all(fd, word, 4);
        close(fd);
    }
}

int main(void) {
    int listener = listener4(), clients[CLIENTS], echoed = 0, ended = 0;
    pid_t pids[WORKERS];
    for (int i = 0; i < WORKERS; i++)
        if ((pids[i] = fork()) == 0)
            worker(listener);
    for (int i = 0; i < CLIENTS; i++)
        clients[i] = client4(listener);
    for (int i = 0; i < CLIENTS; i++)
        send_all(clients[i], "ping", 4);
    for (int i = 0; i < CLIENTS; i++) {
        char back[8] = "";
        echoed += read_all(clients[i], back, 4) == 4 && !strcmp(back, "ping");
        ended += read_all(clients[i], back, 1) == 0;
    }
    printf("echoed: %d, ended: %d\n", echoed, ended);
    for (int i = 0; i < WORKERS; i++) {
        kill(pids[i], SIGTERM);
        show_status("worker", pids[i]);
    }
    /* The listener is still the parent's. */
    int c = client4(listener);
    TFD(accept(listener, NULL, NULL));
    close(c);
    return 0;
}
