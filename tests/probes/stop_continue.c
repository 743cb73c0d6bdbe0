// SIGSTOP and SIGCONT: in the middle of a transfer, and in blocked accept, connect-to-be and read.
#include "probe.h"

enum { SIZE = 32 << 20 };

static void stop_and_go(pid_t pid) {
    int status;
    kill(pid, SIGSTOP);
    MUST(waitpid(pid, &status, WUNTRACED));
    printf("stopped: %d\n", WIFSTOPPED(status));
    poll(NULL, 0, 20);
    kill(pid, SIGCONT);
}

int main(void) {
    int c, d, s = listener4();
    static char block[1 << 16];
    connected_pair(&c, &d);
    pid_t child = fork();
    if (child == 0) {
        close(d);
        for (int i = 0; i < SIZE; i += (int)sizeof block)
            send_all(c, block, sizeof block);
        _exit(0);
    }
    close(c);
    size_t got = read_all(d, block, sizeof block);
    stop_and_go(child);
    for (size_t n; (n = read_all(d, block, sizeof block)) > 0;)
        got += n;
    printf("all: %d\n", got == SIZE);
    show_status("sender", child);

    /* Stopped inside accept: the call goes on. */
    child = fork();
    if (child == 0) {
        int fd = TFD(accept(s, NULL, NULL));
        char text[8] = "";
        read_all(fd, text, 5);
        printf("got %s\n", text);
        send_all(fd, "back", 4);
        _exit(0);
    }
    wait_blocked(child);
    stop_and_go(child);
    int e = client4(s);
    send_all(e, "hello", 5);
    settle(e, POLLIN);
    show_read("client", e);
    show_status("acceptor", child);

    /* A client comes and writes while the server is stopped. */
    child = fork();
    if (child == 0) {
        for (int fd = 0; fd >= 0;) {
            fd = accept(s, NULL, NULL);
            char text[8] = "";
            ssize_t n = read(fd, text, 5);
            printf("then got %zd %s\n", n, text);
            _exit(0);
        }
    }
    wait_blocked(child);
    kill(child, SIGSTOP);
    int f = client4(s);
    T(send(f, "early", 5, 0));
    kill(child, SIGCONT);
    show_status("server", child);
    return 0;
}
