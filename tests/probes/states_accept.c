// accept() in every state; blocking too, except where it would wait.
// net: silent
#include "states.h"

static void nonblocking_accept(struct specimen *s, enum state state) {
    (void)state;
    struct sockaddr_in a;
    socklen_t len = sizeof a;
    nonblocking(s->fd);
    int fd = accept(s->fd, SA(a), &len);
    printf("%s", fd >= 0 ? "fd" : errno_name(errno));
    close(fd);
    len = 1;
    fd = accept4(s->fd, SA(a), &len, SOCK_CLOEXEC);
    printf(", again %s", fd >= 0 ? "fd" : errno_name(errno));
    fd = accept4(s->fd, NULL, NULL, 0x70000);
    printf(", bad flags %s", fd >= 0 ? "fd" : errno_name(errno));
}

static void blocking_accept(struct specimen *s, enum state state) {
    if (state == LISTENING)
        return;
    int fd = accept(s->fd, NULL, NULL);
    printf("%s", fd >= 0 ? "fd" : errno_name(errno));
    close(fd);
}

int main(void) {
    printf("-- non-blocking\n");
    table(nonblocking_accept);
    printf("-- blocking\n");
    table(blocking_accept);
    return 0;
}
