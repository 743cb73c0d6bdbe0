// A server that answers before it has read all, and closes, as to a request that is too large: the answer is read before
// the reset, whenever the close falls into the transfer.
#include "probe.h"

enum { TIMES = 300, REQUEST = 200000 };

static const char answer[] = "413 too large";

static void *serve(void *argument) {
    int listener = *(int *)argument;
    char some[4096];
    for (int i = 0; i < TIMES; i++) {
        int d = (int)MUST(accept(listener, NULL, NULL));
        MUST(recv(d, some, sizeof some, 0));
        MUST(send(d, answer, sizeof answer, MSG_NOSIGNAL));
        MUST(close(d));
    }
    return NULL;
}

int main(void) {
    static char request[REQUEST], got[64];
    int answered = 0;
    int listener = listener4();
    pthread_t server;
    pthread_create(&server, NULL, serve, &listener);
    for (int i = 0; i < TIMES; i++) {
        int c = client4(listener);
        size_t count = 0;
        ssize_t part;
        for (size_t sent = 0; sent < sizeof request; sent += part)
            if ((part = send(c, request + sent, sizeof request - sent, MSG_NOSIGNAL)) < 0)
                break;
        while (count < sizeof got && (part = recv(c, got + count, sizeof got - count, 0)) > 0)
            count += part;
        answered += count == sizeof answer && memcmp(got, answer, count) == 0;
        MUST(close(c));
    }
    pthread_join(server, NULL);
    printf("%d of %d answered\n", answered, TIMES);
    return 0;
}
