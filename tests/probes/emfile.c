// RLIMIT_NOFILE: socket, accept and dup give EMFILE; the connection that could not be accepted waits on.
#include "probe.h"
#include <sys/resource.h>

int main(void) {
    int s = listener4(), c = client4(s);
    struct rlimit limit, low;
    MUST(getrlimit(RLIMIT_NOFILE, &limit));
    int next = dup(0);
    close(next);
    low = (struct rlimit){.rlim_cur = (rlim_t)next, .rlim_max = limit.rlim_max};
    settle(s, POLLIN);
    T(setrlimit(RLIMIT_NOFILE, &low));
    T(socket(AF_INET, SOCK_STREAM, 0));
    T(socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
    T(accept(s, NULL, NULL));
    T(accept4(s, NULL, NULL, SOCK_NONBLOCK));
    T(dup(s));
    show_poll("listener", s);
    /* An existing socket can still connect. */
    T(setrlimit(RLIMIT_NOFILE, &limit));
    int e = tcp4();
    low.rlim_cur++;
    T(setrlimit(RLIMIT_NOFILE, &low));
    struct sockaddr_in a = v4(port_of(s));
    T(connect(e, SA(a), sizeof a));
    T(accept(s, NULL, NULL));
    T(setrlimit(RLIMIT_NOFILE, &limit));
    int d = TFD(accept(s, NULL, NULL)), f = TFD(accept(s, NULL, NULL));
    send_all(c, "first", 5);
    send_all(e, "second", 6);
    settle(d, POLLIN);
    settle(f, POLLIN);
    show_read("d", d);
    show_read("f", f);
    return 0;
}
