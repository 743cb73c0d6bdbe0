// As iperf3 between tests: a server closes its connection and its listener, and binds the same port again at once, while
// what it had is just being given up.
#include "probe.h"

int main(void) {
    enum { ROUNDS = 2000 };
    int failed = 0, on = 1;
    struct sockaddr_in a = v4(0);
    for (int i = 0; i < ROUNDS; i++) {
        int s = tcp4();
        MUST(setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on));
        if (bind(s, SA(a), sizeof a) == -1) {
            failed++;
            close(s);
            continue;
        }
        MUST(listen(s, 5));
        a.sin_port = htons(port_of(s));
        int c = client4(s), d = (int)MUST(accept(s, NULL, NULL));
        char byte;
        /* Who closes first, and when the listener goes, changes from round to round. */
        if (i & 1) MUST(close(s));
        MUST(close(c));
        if (i & 2) MUST(read(d, &byte, 1));
        MUST(close(d));
        if (!(i & 1)) MUST(close(s));
        /* Somewhere in the time that giving up takes. */
        for (int turn = 0; turn < (i % 50) * 60; turn++) getppid();
    }
    printf("%d of %d could not bind\n", failed, ROUNDS);
    return 0;
}
