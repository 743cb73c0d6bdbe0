// An address that never answers: EINPROGRESS, EALREADY, ETIMEDOUT after the retransmissions, then again.
// net: silent
#include "probe.h"

static struct sockaddr_in silent(void) {
    struct sockaddr_in a = v4(4000);
    inet_pton(AF_INET, "10.9.9.9", &a.sin_addr);
    return a;
}

static void handler(int signal) { (void)signal; }

int main(void) {
    struct sockaddr_in a = silent();
    struct timeval t = {.tv_usec = 200000};
    int once = 1;

    int c = (int)MUST(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
    T(connect(c, SA(a), sizeof a));
    T(connect(c, SA(a), sizeof a));
    show_names("connecting", c);
    show_poll("connecting", c);
    show_error("connecting", c);
    T(read(c, &a, 1));
    T(close(c));

    /* SO_SNDTIMEO bounds connect. */
    int e = tcp4();
    a = silent();
    T(setsockopt(e, SOL_SOCKET, SO_SNDTIMEO, &t, sizeof t));
    T(connect(e, SA(a), sizeof a));
    T(connect(e, SA(a), sizeof a));

    /* A signal interrupts it. */
    struct sigaction action = {.sa_handler = handler};
    struct itimerval soon = {.it_value = {.tv_usec = 200000}};
    int f = tcp4();
    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &soon, NULL);
    T(connect(f, SA(a), sizeof a));
    nonblocking(f);
    T(connect(f, SA(a), sizeof a));

    /* One retransmission: three seconds. */
    int g = tcp4();
    T(setsockopt(g, IPPROTO_TCP, TCP_SYNCNT, &once, sizeof once));
    T(connect(g, SA(a), sizeof a));
    show_error("timed out", g);
    int h = (int)MUST(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
    T(setsockopt(h, IPPROTO_TCP, TCP_SYNCNT, &once, sizeof once));
    T(connect(h, SA(a), sizeof a));
    settle(h, POLLERR);
    show_poll("timed out", h);
    show_error("timed out", h);
    show_error("timed out", h);
    return 0;
}
