// SO_RCVTIMEO bounds accept and recv, SO_SNDTIMEO send.
#include "probe.h"

static void handler(int signal) { (void)signal; }

int main(void) {
    int s = listener4(), c, d;
    struct timeval t = {.tv_usec = 100000}, none = {0};
    static char block[1 << 16];
    T(setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t));
    T(accept(s, NULL, NULL));
    int e = client4(s);
    TFD(accept(s, NULL, NULL));
    T(accept(s, NULL, NULL));
    close(e);

    /* With a time-out set a signal means EINTR, SA_RESTART or not. */
    struct sigaction a = {.sa_handler = handler, .sa_flags = SA_RESTART};
    struct itimerval soon = {.it_value = {.tv_usec = 100000}};
    struct timeval later = {.tv_sec = 30};
    sigaction(SIGALRM, &a, NULL);
    T(setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &later, sizeof later));
    setitimer(ITIMER_REAL, &soon, NULL);
    T(accept(s, NULL, NULL));

    connected_pair(&c, &d);
    T(setsockopt(c, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t));
    T(recv(c, block, 1, 0));
    T(setsockopt(c, SOL_SOCKET, SO_SNDTIMEO, &t, sizeof t));
    ssize_t n;
    do
        n = send(c, block, sizeof block, MSG_NOSIGNAL);
    while (n > 0);
    printf("nobody reads: %zd %s\n", n, errno_name(errno));
    T(setsockopt(c, SOL_SOCKET, SO_RCVTIMEO, &none, sizeof none));
    send_all(d, "x", 1);
    T(recv(c, block, 1, 0));
    return 0;
}
