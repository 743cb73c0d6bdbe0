// Clients killed at any point: the server goes on, the listener serves the next.
#include "probe.h"

enum { ROUNDS = 40 };

static void client(int s) {
    static char block[4096];
    for (;;) {
        int c = client4(s);
        for (int i = 0; i < 20; i++) {
            send(c, block, sizeof block, MSG_NOSIGNAL);
            recv(c, block, 1, MSG_DONTWAIT);
        }
        close(c);
    }
}

static void *server(void *argument) {
    int s = *(int *)argument;
    static char block[65536];
    for (;;) {
        int fd = accept(s, NULL, NULL);
        if (fd < 0)
            return NULL;
        char first = 0;
        ssize_t n = read(fd, &first, 1);
        if (n == 1 && first == '!')
            send(fd, "served", 6, MSG_NOSIGNAL);
        while (n > 0 && first != '!' && (n = read(fd, block, sizeof block)) > 0)
            send(fd, "x", 1, MSG_NOSIGNAL);
        close(fd);
    }
}

int main(void) {
    int s = listener4(), killed = 0;
    pthread_t thread;
    pthread_create(&thread, NULL, server, &s);
    for (int i = 0; i < ROUNDS; i++) {
        pid_t child = fork();
        if (child == 0)
            client(s);
        struct timespec t = {.tv_nsec = 137000 * (i + 1) % 9000000};
        nanosleep(&t, NULL);
        kill(child, SIGKILL);
        int status;
        waitpid(child, &status, 0);
        killed += WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
    }
    printf("killed %d\n", killed);
    int c = client4(s);
    send_all(c, "!", 1);
    settle(c, POLLIN);
    show_read("client", c);
    T(shutdown(s, SHUT_RD));
    pthread_join(thread, NULL);
    return 0;
}
