// Threads that wait in accept on one listener, while every third client resets its connection: each is accepted once, and
// nobody waits for ever, whoever takes which.
#include "probe.h"

enum { THREADS = 4, CLIENTS = 900 };
static int listener;
static unsigned served;

static void *serve(void *unused) {
    (void)unused;
    for (;;) {
        int fd = accept(listener, NULL, NULL);
        char byte;
        if (fd < 0)
            return NULL;
        if (read(fd, &byte, 1) == 1)
            send(fd, &byte, 1, MSG_NOSIGNAL);
        close(fd);
        __sync_fetch_and_add(&served, 1);
    }
}

static void client(void) {
    int answered = 0, asked = 0;
    for (int i = 0; i < CLIENTS; i++) {
        int c = client4(listener);
        if (i % 3 == 0) {
            struct linger hard = {.l_onoff = 1, .l_linger = 0};
            MUST(setsockopt(c, SOL_SOCKET, SO_LINGER, &hard, sizeof hard));
        } else {
            char byte = 'x';
            asked++;
            send_all(c, &byte, 1);
            answered += read_all(c, &byte, 1) == 1;
        }
        close(c);
    }
    printf("answered %d of %d\n", answered, asked);
    exit(0);
}

int main(void) {
    pthread_t threads[THREADS];
    listener = listener4();
    pid_t child = (pid_t)MUST(fork());
    if (child == 0)
        client();
    for (int i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, serve, NULL);
    show_status("client", child);
    for (int i = 0; i < SOON && served < CLIENTS; i++)
        usleep(1000);
    printf("served %u of %d\n", served, CLIENTS);
    T(shutdown(listener, SHUT_RD));
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    return 0;
}
