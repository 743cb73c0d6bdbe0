// Threads call connect on one socket at once; threads accept and another shuts the listener.
#include "probe.h"

enum { THREADS = 4, ROUNDS = 20 };
static int fd, succeeded, others;
static struct sockaddr_in a;
static pthread_barrier_t barrier;

static void *join_in(void *unused) {
    (void)unused;
    pthread_barrier_wait(&barrier);
    int r = connect(fd, SA(a), sizeof a);
    /* The others wait with the first, or come after it. */
    if (r == 0)
        __atomic_add_fetch(&succeeded, 1, __ATOMIC_SEQ_CST);
    else if (errno != EISCONN)
        __atomic_add_fetch(&others, 1, __ATOMIC_SEQ_CST);
    return NULL;
}

int main(void) {
    pthread_t threads[THREADS];
    int s = listener4(), at_least_one = 0, whole = 0;
    a = v4(port_of(s));
    pthread_barrier_init(&barrier, NULL, THREADS);
    for (int i = 0; i < ROUNDS; i++) {
        fd = tcp4();
        succeeded = 0;
        for (int t = 0; t < THREADS; t++)
            pthread_create(&threads[t], NULL, join_in, NULL);
        for (int t = 0; t < THREADS; t++)
            pthread_join(threads[t], NULL);
        at_least_one += succeeded >= 1;
        char text[4] = "";
        int d = (int)MUST(accept(s, NULL, NULL));
        send_all(fd, "one", 3);
        close(fd);
        whole += read_all(d, text, 3) == 3 && read_all(d, text, 1) == 0;
        close(d);
    }
    printf("connected %d, other errors %d, whole %d\n", at_least_one, others, whole);
    nonblocking(s);
    T(accept(s, NULL, NULL));
    return 0;
}
