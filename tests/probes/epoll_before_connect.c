// Registered before connect, as nginx does for its upstreams: the edge comes when the connection is there.
#include "probe.h"

static void connect_with(unsigned mode, const char *label) {
    int s = listener4(), ep = (int)MUST(epoll_create1(0));
    int c = (int)MUST(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
    struct epoll_event e = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | mode}, got = {0};
    struct sockaddr_in a = v4(port_of(s));
    printf("%s\n", label);
    T(epoll_ctl(ep, EPOLL_CTL_ADD, c, &e));
    T(connect(c, SA(a), sizeof a));
    /* An unconnected TCP socket may have been reported as hung up; wait for what counts. */
    for (int i = 0; i < 1000 && got.events != EPOLLOUT; i++)
        MUST(epoll_wait(ep, &got, 1, SOON));
    printf("connected: %s\n", poll_names(got.events));
    show_error("client", c);
    int d = (int)MUST(accept(s, NULL, NULL));
    send_all(d, "hello", 5);
    got.events = 0;
    while (!(got.events & EPOLLIN))
        MUST(epoll_wait(ep, &got, 1, SOON));
    printf("data: %s\n", poll_names(got.events));
    show_read("client", c);
    if (mode & EPOLLET)
        T(epoll_wait(ep, &got, 1, QUIET));
    close(c);
    close(d);
    close(s);
    close(ep);
}

static void refused_with(unsigned mode) {
    int holder, ep = (int)MUST(epoll_create1(0));
    int c = (int)MUST(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
    struct epoll_event e = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | mode}, got = {0};
    struct sockaddr_in closed = v4(closed_port(&holder));
    T(epoll_ctl(ep, EPOLL_CTL_ADD, c, &e));
    connect(c, SA(closed), sizeof closed);
    while (!(got.events & EPOLLERR))
        MUST(epoll_wait(ep, &got, 1, SOON));
    printf("refused: %s\n", poll_names(got.events));
    show_error("client", c);
    close(c);
    close(ep);
}

int main(void) {
    connect_with(0, "level");
    connect_with(EPOLLET, "edge");
    refused_with(0);
    refused_with(EPOLLET);
    return 0;
}
