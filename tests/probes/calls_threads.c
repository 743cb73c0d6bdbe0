// Many threads make their first socket calls at once, while others already make the same.
#include "probe.h"

enum { THREADS = 8, CALLS = 2000 };

static int tcp, udp;
static pthread_barrier_t barrier;

static void *work(void *number) {
    long wrong = 0;
    pthread_barrier_wait(&barrier);
    for (int call = 0; call < CALLS; call++) {
        struct sockaddr_in a = {0};
        socklen_t length = sizeof a;
        int value = 7;
        if ((call + (long)number) % 2) {
            wrong += getsockname(udp, SA(a), &length) != 0 || a.sin_family != AF_INET || length != sizeof a;
            length = sizeof a;
        }
        wrong += getsockname(tcp, SA(a), &length) != 0 || a.sin_family != AF_INET || length != sizeof a;
        length = sizeof value;
        wrong += getsockopt(tcp, SOL_SOCKET, SO_ERROR, &value, &length) != 0 || value != 0;
        value = 1;
        wrong += setsockopt(tcp, IPPROTO_TCP, TCP_NODELAY, &value, sizeof value) != 0;
        length = sizeof value;
        wrong += getsockopt(tcp, IPPROTO_TCP, TCP_NODELAY, &value, &length) != 0 || value != 1;
        wrong += getpeername(tcp, SA(a), &length) != -1 || errno != ENOTCONN;
    }
    return (void *)wrong;
}

int main(void) {
    tcp = MUST(socket(AF_INET, SOCK_STREAM, 0));
    udp = MUST(socket(AF_INET, SOCK_DGRAM, 0));
    pthread_barrier_init(&barrier, NULL, THREADS);
    pthread_t threads[THREADS];
    for (long i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, work, (void *)i);
    for (int i = 0; i < THREADS; i++) {
        void *wrong;
        pthread_join(threads[i], &wrong);
        printf("thread %d: %ld wrong\n", i, (long)wrong);
    }
    return 0;
}
