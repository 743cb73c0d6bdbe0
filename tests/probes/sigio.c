// O_ASYNC: SIGIO when data comes and when a connection waits.
#include "probe.h"

static void wait_sigio(const char *label, sigset_t *set) {
    struct timespec limit = {.tv_sec = SOON / 1000};
    siginfo_t info;
    int n = sigtimedwait(set, &info, &limit);
    printf("%s: %s\n", label, n == SIGIO ? "SIGIO" : errno_name(errno));
}

static void drain(sigset_t *set) {
    struct timespec now = {0};
    while (sigtimedwait(set, NULL, &now) > 0)
        ;
}

int main(void) {
    int c, d, s = listener4();
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGIO);
    sigprocmask(SIG_BLOCK, &set, NULL);
    connected_pair(&c, &d);
    T(fcntl(d, F_SETOWN, getpid()));
    printf("owner is us: %d\n", fcntl(d, F_GETOWN) == getpid());
    T(fcntl(d, F_SETFL, O_ASYNC | O_RDWR));
    drain(&set);
    send_all(c, "x", 1);
    wait_sigio("data", &set);
    settle(d, POLLIN);
    drain(&set);
    T(shutdown(c, SHUT_WR));
    wait_sigio("end", &set);
    T(fcntl(s, F_SETOWN, getpid()));
    T(fcntl(s, F_SETFL, O_ASYNC | O_RDWR));
    drain(&set);
    int e = client4(s);
    wait_sigio("connection", &set);
    TFD(accept(s, NULL, NULL));
    close(e);
    return 0;
}
