// 64 MB in both directions at once over one connection, each byte checked.
#include "probe.h"

enum { SIZE = 64 << 20, BLOCK = 1 << 16 };

struct job { int fd; unsigned seed; int ok; };

static void fill(unsigned char *block, unsigned *state) {
    for (int i = 0; i < BLOCK; i += 4) {
        *state = *state * 1664525 + 1013904223;
        memcpy(block + i, state, 4);
    }
}

static void *sender(void *argument) {
    struct job *job = argument;
    unsigned char block[BLOCK];
    unsigned state = job->seed;
    for (long done = 0; done < SIZE; done += BLOCK) {
        fill(block, &state);
        send_all(job->fd, block, BLOCK);
    }
    job->ok = shutdown(job->fd, SHUT_WR) == 0;
    return NULL;
}

static void *receiver(void *argument) {
    struct job *job = argument;
    unsigned char want[BLOCK], got[BLOCK];
    unsigned state = job->seed;
    job->ok = 1;
    for (long done = 0; done < SIZE && job->ok; done += BLOCK) {
        fill(want, &state);
        job->ok = read_all(job->fd, got, BLOCK) == BLOCK && !memcmp(want, got, BLOCK);
    }
    job->ok = job->ok && read_all(job->fd, got, 1) == 0;
    return NULL;
}

int main(void) {
    int c, d;
    pthread_t t[4];
    connected_pair(&c, &d);
    struct job jobs[4] = {{c, 1, 0}, {d, 1, 0}, {d, 2, 0}, {c, 2, 0}};
    for (int i = 0; i < 4; i++)
        pthread_create(&t[i], NULL, i % 2 ? receiver : sender, &jobs[i]);
    for (int i = 0; i < 4; i++)
        pthread_join(t[i], NULL);
    printf("sent %d, received %d; sent %d, received %d\n", jobs[0].ok, jobs[1].ok, jobs[2].ok, jobs[3].ok);
    return 0;
}
