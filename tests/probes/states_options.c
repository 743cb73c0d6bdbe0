// getsockopt() and setsockopt() in every state: SO_ERROR once and again, a flag, what the socket says it is.
// net: silent
#include "states.h"

static int get(int fd, int level, int name) {
    int value = -1;
    socklen_t len = sizeof value;
    return getsockopt(fd, level, name, &value, &len) < 0 ? -errno : value;
}

static void options(struct specimen *s, enum state state) {
    (void)state;
    int on = 1;
    int first = so_error(s->fd), second = so_error(s->fd);
    printf("error %s, then %s", errno_name(first), errno_name(second));
    printf(", nodelay %s", outcome(setsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on)));
    printf(" %d", get(s->fd, IPPROTO_TCP, TCP_NODELAY));
    printf(", keepalive %s", outcome(setsockopt(s->fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on)));
    printf(" %d, type %d domain %d protocol %d listens %d", get(s->fd, SOL_SOCKET, SO_KEEPALIVE),
           get(s->fd, SOL_SOCKET, SO_TYPE), get(s->fd, SOL_SOCKET, SO_DOMAIN), get(s->fd, SOL_SOCKET, SO_PROTOCOL),
           get(s->fd, SOL_SOCKET, SO_ACCEPTCONN));
    printf(", reuse %s", outcome(setsockopt(s->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on)));
}

int main(void) {
    table(options);
    return 0;
}
