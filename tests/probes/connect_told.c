// connect(2) of a socket that has become connected meanwhile succeeds once; what else the call is given, and what has
// happened since. Twice, so that the second time all call sites are known.
#include "probe.h"


static void told(int round) {
    printf("round %d\n", round);
    int s = listener4();
    struct sockaddr_in a = v4(port_of(s));
    struct sockaddr_un unix_name = {.sun_family = AF_UNIX, .sun_path = "/nowhere"};

    int c = (int)MUST(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
    T(connect(c, SA(a), sizeof a));
    settle(c, POLLOUT);
    int d = (int)MUST(accept(s, NULL, NULL)), e = (int)MUST(dup(c));
    T(connect(c, SA(a), 1));
    T(connect(c, (struct sockaddr *)16, sizeof a));
    T(connect(c, NULL, sizeof a));
    T(connect(c, SA(a), -1));
    T(connect(c, SA(a), 5000));
    show_names("before", c);
    T(connect(e, SA(a), sizeof a));
    T(connect(c, SA(a), sizeof a));
    T(connect(c, SA(a), 2));
    T(connect(e, SA(a), sizeof a));
    show_error("told", c);
    MUST(write(d, "x", 1));
    settle(c, POLLIN);
    show_read("client", c);
    close(d);
    close(c);
    close(e);

    c = (int)MUST(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
    MUST(connect(c, SA(a), sizeof a) + 2);
    settle(c, POLLOUT);
    d = (int)MUST(accept(s, NULL, NULL));
    T(connect(c, SA(unix_name), sizeof unix_name));
    T(connect(c, SA(a), sizeof a));
    close(c);
    close(d);

    /* A child is told, and so the parent is. */
    c = (int)MUST(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
    MUST(connect(c, SA(a), sizeof a) + 2);
    settle(c, POLLOUT);
    pid_t child = (pid_t)MUST(fork());
    if (child == 0) {
        T(connect(c, SA(a), sizeof a));
        _exit(0);
    }
    MUST(waitpid(child, NULL, 0));
    T(connect(c, SA(a), sizeof a));
    d = (int)MUST(accept(s, NULL, NULL));

    /* Told, then reset: it stays connected to connect(2), as it was. */
    struct linger hard = {1, 0};
    MUST(setsockopt(d, SOL_SOCKET, SO_LINGER, &hard, sizeof hard));
    close(d);
    settle(c, POLLHUP);
    show_error("reset", c);
    T(connect(c, SA(a), sizeof a));
    T(connect(c, SA(a), sizeof a));
    close(c);
    close(s);
}

int main(void) {
    told(1);
    told(2);
    return 0;
}
