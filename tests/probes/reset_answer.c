// A server that answers before it has read all, and closes, as to a request that is too large: the answer is read before
// the reset, whenever the close falls into the transfer, and also if both directions are shut down first.
#include "probe.h"

enum { TIMES = 300, REQUEST = 200000 };

static const char answer[] = "413 too large";

static int listener, shuts_down;

static void *serve(void *unused) {
    (void)unused;
    char some[4096];
    for (int i = 0; i < TIMES; i++) {
        int d = (int)MUST(accept(listener, NULL, NULL));
        MUST(recv(d, some, sizeof some, 0));
        MUST(send(d, answer, sizeof answer, MSG_NOSIGNAL));
        if (shuts_down)
            MUST(shutdown(d, SHUT_RDWR));
        MUST(close(d));
    }
    return NULL;
}

static void run(const char *what) {
    static char request[REQUEST], got[64];
    int answered = 0;
    pthread_t server;
    pthread_create(&server, NULL, serve, NULL);
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
    printf("%s: %d of %d answered\n", what, answered, TIMES);
}

int main(void) {
    listener = listener4();
    run("close");
    shuts_down = 1;
    run("shutdown and close");
    return 0;
}
