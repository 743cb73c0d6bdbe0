// poll on a socket that is not connected: OUT and HUP at once. And read says so without waiting.
#include "probe.h"

/* The errno of read differs (docs/limitations.md); that it fails at once does not. */
static void show_no_wait(const char *label, int fd) {
    char byte;
    ssize_t n = read(fd, &byte, 1);
    printf("%s read: %s\n", label, n < 0 && errno != EAGAIN ? "fails at once" : "?");
}

int main(void) {
    int fresh = tcp4(), bound = tcp4(), listening = listener4(), refused = tcp4(), holder;
    show_poll("new", fresh);
    show_no_wait("new", fresh);
    struct sockaddr_in any = v4(0);
    T(bind(bound, SA(any), sizeof any));
    show_poll("bound", bound);
    show_no_wait("bound", bound);
    show_poll("listening", listening);
    show_no_wait("listening", listening);
    struct sockaddr_in closed = v4(closed_port(&holder));
    T(connect(refused, SA(closed), sizeof closed));
    show_poll("refused", refused);
    show_no_wait("refused", refused);
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET};
    int epoll = (int)MUST(epoll_create1(0));
    MUST(epoll_ctl(epoll, EPOLL_CTL_ADD, fresh, &event));
    T(epoll_wait(epoll, &event, 1, 0));
    printf("events: %s\n", poll_names(event.events));
    T(epoll_wait(epoll, &event, 1, 0));

    /* The same registration tells of the connection that a blocking connect makes. */
    int listener = listener4();
    struct sockaddr_in a = v4(port_of(listener));
    T(connect(fresh, SA(a), sizeof a));
    T(epoll_wait(epoll, &event, 1, SOON));
    printf("events: %s\n", poll_names(event.events));
    show_poll("connected", fresh);
    return 0;
}
