// Connections to a peer that is known, begun without blocking and used or closed as soon as they are there. (That this is
// at once is a matter of what carries them: tests/cli/carriers.rs.)
#include "probe.h"

static int begun(int listener, int ep, unsigned events) {
    int c = (int)MUST(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
    struct sockaddr_in a = v4(port_of(listener));
    struct epoll_event e = {.events = events};
    if (events)
        MUST(epoll_ctl(ep, EPOLL_CTL_ADD, c, &e));
    T(connect(c, SA(a), sizeof a));
    settle(c, POLLOUT);
    return c;
}

static void served(const char *label, int listener) {
    char text[16];
    int d = (int)MUST(accept(listener, NULL, NULL));
    printf("%s: %zu bytes, then the end\n", label, read_all(d, text, sizeof text));
    close(d);
}

int main(void) {
    int s = listener4(), ep = (int)MUST(epoll_create1(0));
    int first = client4(s), d = (int)MUST(accept(s, NULL, NULL));
    send_all(d, "x", 1);
    settle(first, POLLIN);

    int c = begun(s, -1, 0);
    show_poll("client", c);
    show_error("client", c);
    show_names("client", c);
    struct sockaddr_in a = v4(port_of(s));
    T(connect(c, SA(a), sizeof a));
    T(connect(c, SA(a), sizeof a));
    T(write(c, "hello", 5));
    T(close(c));
    served("written and closed", s);

    /* Neither written nor looked at. */
    T(close(begun(s, -1, 0)));
    served("closed", s);

    c = begun(s, -1, 0);
    T(write(c, "hello", 5));
    T(shutdown(c, SHUT_WR));
    served("written and shut down", s);
    settle(c, POLLRDHUP);
    show_read("client", c);

    /* Edge-triggered: what was reported of the unconnected socket is not all. */
    c = begun(s, ep, EPOLLIN | EPOLLOUT | EPOLLET);
    struct epoll_event got = {0};
    T(epoll_wait(ep, &got, 1, 0));
    printf("%s\n", poll_names(got.events));
    T(epoll_wait(ep, &got, 1, QUIET));
    T(close(c));
    served("closed", s);

    /* A child's copy is the last; nobody else knows of the connection. */
    c = begun(s, -1, 0);
    pid_t child = fork();
    if (child == 0) {
        send_all(c, "bye", 3);
        _exit(0);
    }
    close(c);
    show_status("child", child);
    served("a child's", s);
    return 0;
}
