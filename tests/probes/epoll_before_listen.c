// A socket registered before bind and listen reports connections all the same.
#include "probe.h"

int main(void) {
    for (int edge = 0; edge < 2; edge++) {
        int s = (int)MUST(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0)), ep = (int)MUST(epoll_create1(0));
        struct epoll_event e = {.events = EPOLLIN | (edge ? EPOLLET : 0)}, got = {0};
        struct sockaddr_in a = v4(0);
        T(epoll_ctl(ep, EPOLL_CTL_ADD, s, &e));
        T(bind(s, SA(a), sizeof a));
        T(listen(s, 10));
        /* New sockets count as hung up natively, which an edge may still tell of. */
        epoll_wait(ep, &got, 1, 0);
        int c[5];
        for (int i = 0; i < 5; i++)
            c[i] = client4(s);
        for (got.events = 0; !(got.events & EPOLLIN);)
            MUST(epoll_wait(ep, &got, 1, SOON));
        int accepted = 0;
        for (int i = 0; i < SOON && accepted < 5; i++) {
            int fd = accept(s, NULL, NULL);
            accepted += fd >= 0;
            if (fd < 0)
                poll(NULL, 0, 1);
        }
        printf("accepted: %d\n", accepted);
        T(accept(s, NULL, NULL));
        while (epoll_wait(ep, &got, 1, QUIET) > 0 && edge)
            ;
        int late = client4(s);
        T(epoll_wait(ep, &got, 1, SOON));
        printf("late: %s\n", poll_names(got.events));
        TFD(accept(s, NULL, NULL));
        close(late);
        for (int i = 0; i < 5; i++)
            close(c[i]);
        close(s);
        close(ep);
    }
    return 0;
}
