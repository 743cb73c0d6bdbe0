// A signal every millisecond, with SA_RESTART: no call fails, nothing is lost.
#include "probe.h"

enum { ROUNDS = 150 };
static volatile sig_atomic_t caught;
static void handler(int signal) {
    (void)signal;
    caught++;
}

int main(void) {
    struct sigaction a = {.sa_handler = handler, .sa_flags = SA_RESTART};
    struct itimerval storm = {{0, 1000}, {0, 1000}};
    int right = 0;
    sigaction(SIGALRM, &a, NULL);
    setitimer(ITIMER_REAL, &storm, NULL);
    for (int i = 0; i < ROUNDS; i++) {
        char text[8] = "";
        int s = tcp4(), on = 1, value = 0, d, c = tcp4();
        struct sockaddr_in address = v4(0);
        socklen_t len = sizeof value;
        MUST(setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on));
        MUST(bind(s, SA(address), sizeof address));
        MUST(listen(s, 5));
        address = v4(port_of(s));
        MUST(connect(c, SA(address), sizeof address));
        MUST(d = accept(s, NULL, NULL));
        MUST(setsockopt(d, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on));
        MUST(getsockopt(d, IPPROTO_TCP, TCP_NODELAY, &value, &len));
        len = sizeof address;
        MUST(getpeername(d, SA(address), &len));
        MUST(send(c, "storm", 5, 0));
        MUST(shutdown(c, SHUT_WR));
        right += value == 1 && recv(d, text, 5, MSG_WAITALL) == 5 && recv(d, text, 1, 0) == 0;
        MUST(close(d));
        MUST(close(c));
        MUST(close(s));
    }
    /* It must have blown. */
    while (caught < 50)
        pause();
    printf("right %d\n", right);
    return 0;
}
