// Several threads block in accept on one listener: every connection is taken once.
#include "probe.h"

enum { THREADS = 4, CLIENTS = 40 };
static int listener, served[CLIENTS];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void *serve(void *unused) {
    (void)unused;
    for (;;) {
        int fd = accept(listener, NULL, NULL);
        unsigned char id;
        if (fd < 0)
            return NULL;
        if (read_all(fd, &id, 1) == 1 && id < CLIENTS) {
            pthread_mutex_lock(&lock);
            served[id]++;
            pthread_mutex_unlock(&lock);
        }
        send_all(fd, &id, 1);
        close(fd);
    }
}

int main(void) {
    pthread_t threads[THREADS];
    int clients[CLIENTS], right = 0, echoed = 0;
    listener = listener4();
    for (int i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, serve, NULL);
    for (int i = 0; i < CLIENTS; i++)
        clients[i] = client4(listener);
    for (unsigned char i = 0; i < CLIENTS; i++)
        send_all(clients[i], &i, 1);
    for (unsigned char i = 0; i < CLIENTS; i++) {
        unsigned char back = 255;
        echoed += read_all(clients[i], &back, 1) == 1 && back == i;
    }
    for (int i = 0; i < CLIENTS; i++)
        right += served[i] == 1;
    printf("served once: %d, echoed: %d\n", right, echoed);
    T(shutdown(listener, SHUT_RD));
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    printf("all threads woke from accept\n");
    return 0;
}
