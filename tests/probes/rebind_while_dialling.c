// A server is replaced on its port while a client is just connecting to the old one. Who connects to the new one is
// that one's, and does not share what became of the other attempt.
#include "probe.h"

enum { ROUNDS = 400, STEP = 10 };

static int listener_on(struct sockaddr_in *a) {
    int s = tcp4(), on = 1;
    MUST(setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on));
    MUST(bind(s, SA(*a), sizeof *a));
    MUST(listen(s, 5));
    a->sin_port = htons(port_of(s));
    return s;
}

static void spin(long microseconds) {
    struct timespec begin, now;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    do
        clock_gettime(CLOCK_MONOTONIC, &now);
    while ((now.tv_sec - begin.tv_sec) * 1000000 + (now.tv_nsec - begin.tv_nsec) / 1000 < microseconds);
}

/* Whether a client that has written a byte is accepted; the first one may be, before it. */
static int is_served(int s) {
    char byte;
    for (ssize_t got = 0; got != 1;) {
        if (!(poll_now(s, SOON) & POLLIN))
            return 0;
        int d = (int)MUST(accept(s, NULL, NULL));
        got = read(d, &byte, 1);
        MUST(close(d));
    }
    return 1;
}

int main(void) {
    struct sockaddr_in a = v4(0);
    for (int round = 0; round < ROUNDS; round++) {
        int s = listener_on(&a), first = tcp4(), second = tcp4();
        nonblocking(first);
        connect(first, SA(a), sizeof a);
        spin(round * STEP);
        MUST(close(s));
        /* In every other round its attempt goes on meanwhile. */
        if (round & 1)
            MUST(close(first));
        s = listener_on(&a);
        if (connect(second, SA(a), sizeof a) == -1) {
            printf("round %d: connect: %s\n", round, errno_name(errno));
            return 1;
        }
        if (!(round & 1))
            MUST(close(first));
        MUST(send(second, "x", 1, MSG_NOSIGNAL));
        if (!is_served(s)) {
            printf("round %d: connected, but nobody to accept\n", round);
            return 1;
        }
        MUST(close(second));
        MUST(close(s));
    }
    printf("all served\n");
    return 0;
}
