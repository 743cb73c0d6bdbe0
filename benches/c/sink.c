/* sink ADDRESS PORT: takes connections and reads them until they end, then says so with a byte and closes. One thread,
 * level-triggered epoll. Ends when it is told to. */
#include "bench.h"
#include <errno.h>
#include <sys/epoll.h>

enum { EVENTS = 256, BACKLOG = 4096 };

static void watch(int epoll, int fd)
{
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) != 0)
        fail("epoll_ctl");
}

static void take(int epoll, int listener)
{
    int fd = accept(listener, NULL, NULL);
    if (fd >= 0)
        watch(epoll, fd);
    else if (errno != ECONNABORTED && errno != EINTR)
        fail("accept");
}

static void drain(int fd)
{
    static char content[256 << 10];
    if (read(fd, content, sizeof content) > 0)
        return;
    /* A peer that has gone does not hear it; that is its own affair. */
    if (send(fd, "", 1, MSG_NOSIGNAL) != 1)
        errno = 0;
    close(fd);
}

int main(int argc, char **argv)
{
    need_arguments(argc, 2, "sink ADDRESS PORT");
    struct sockaddr_in own = address_of(argv + 1);
    int listener = tcp_socket(), on = 1, epoll = epoll_create1(EPOLL_CLOEXEC);
    if (epoll < 0)
        fail("epoll_create1");
    if (setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0)
        fail("SO_REUSEADDR");
    if (bind(listener, (struct sockaddr *)&own, sizeof own) != 0 || listen(listener, BACKLOG) != 0)
        fail("listen");
    watch(epoll, listener);
    for (;;) {
        struct epoll_event events[EVENTS];
        int count = epoll_wait(epoll, events, EVENTS, -1);
        for (int index = 0; index < count; index++) {
            if (events[index].data.fd == listener)
                take(epoll, listener);
            else
                drain(events[index].data.fd);
        }
    }
}
