// shutdown(SHUT_RD) ends a listener: blocked accepts wake with EINVAL, clients are refused, it may listen again.
#include "probe.h"

static struct gate ready;
static pid_t acceptor;
static int s;

static void *blocked(void *unused) {
    (void)unused;
    acceptor = thread_id();
    gate_open(ready);
    T(accept(s, NULL, NULL));
    return NULL;
}

int main(void) {
    pthread_t thread;
    s = listener4();
    struct sockaddr_in a = v4(port_of(s));
    ready = gate();
    T(shutdown(s, SHUT_WR));
    pthread_create(&thread, NULL, blocked, NULL);
    gate_wait(ready);
    wait_blocked(acceptor);
    MUST(shutdown(s, SHUT_RD));
    pthread_join(thread, NULL);
    T(accept(s, NULL, NULL));
    int c = tcp4();
    T(connect(c, SA(a), sizeof a));
    T(listen(s, 5));
    int d = tcp4();
    a = v4(port_of(s));
    T(connect(d, SA(a), sizeof a));
    TFD(accept(s, NULL, NULL));
    return 0;
}
