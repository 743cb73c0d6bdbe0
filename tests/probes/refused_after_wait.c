// A listener is closed as soon as an accept(2) that has waited returns: the next connect(2) is refused, though no call
// comes between the two. Tried often, for it is a matter of microseconds.
#include "probe.h"
#include <pthread.h>

static struct sockaddr_in where;

static void *client(void *unused) {
    (void)unused;
    usleep(2000);
    int c = tcp4();
    MUST(connect(c, SA(where), sizeof where));
    char byte;
    MUST(read(c, &byte, 1));
    close(c);
    return NULL;
}

int main(void) {
    for (int i = 0; i < 40; i++) {
        int s = listener4(), next = tcp4();
        where = v4(port_of(s));
        pthread_t thread;
        pthread_create(&thread, NULL, client, NULL);
        int d = (int)MUST(accept(s, NULL, NULL));
        close(s);
        int connected = connect(next, SA(where), sizeof where);
        if (connected == 0 || errno != ECONNREFUSED) printf("%d: %d %s\n", i, connected, errno_name(errno));
        close(d);
        pthread_join(thread, NULL);
        close(next);
    }
    puts("done");
    return 0;
}
