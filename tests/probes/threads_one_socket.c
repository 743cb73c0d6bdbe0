// One thread reads what another writes to the same socket; a close in one thread is seen by the others.
#include "probe.h"

enum { ROUNDS = 2000 };
static int fd;

static void *echo(void *unused) {
    (void)unused;
    char byte;
    while (read(fd, &byte, 1) == 1)
        send_all(fd, &byte, 1);
    return NULL;
}

static void *create(void *argument) {
    int s = *(int *)argument, made = 0;
    for (int i = 0; i < 50; i++) {
        int c = client4(s);
        made += write(c, "x", 1) == 1;
        close(c);
    }
    return (void *)(long)made;
}

int main(void) {
    int c, s, rounds = 0, got = 0;
    pthread_t thread, makers[4];
    connected_pair(&c, &fd);
    pthread_create(&thread, NULL, echo, NULL);
    for (char byte = 0, back; rounds < ROUNDS; rounds++, byte++) {
        send_all(c, &byte, 1);
        if (read_all(c, &back, 1) != 1 || back != byte)
            break;
    }
    printf("rounds: %d\n", rounds);
    T(shutdown(c, SHUT_WR));
    pthread_join(thread, NULL);

    /* Threads create, connect and close while another accepts. */
    s = listener4();
    for (int i = 0; i < 4; i++)
        pthread_create(&makers[i], NULL, create, &s);
    for (int i = 0; i < 200; i++) {
        int d = (int)MUST(accept(s, NULL, NULL));
        char byte;
        got += read_all(d, &byte, 1) == 1 && read_all(d, &byte, 1) == 0;
        close(d);
    }
    for (int i = 0; i < 4; i++) {
        void *made;
        pthread_join(makers[i], &made);
        printf("made: %ld\n", (long)made);
    }
    printf("got: %d\n", got);
    return 0;
}
