// recv() in every state but the unconnected, blocking where it need not wait. After a refused non-blocking connect the kernel's errno
// differs (refused_read_write.c).
// net: silent
#include "states.h"

static int skipped(enum state state) {
    return state == REFUSED_LATER || unconnected(state) || bound_or_listens(state);
}

static int waits(enum state state) {
    return state == CONNECTING || state == CONNECTED || state == ACCEPTED || state == SHUT_WRITING;
}

static void at_once(struct specimen *s, enum state state) {
    char text[8];
    if (skipped(state))
        return;
    printf("recv %s", outcome(recv(s->fd, text, sizeof text, MSG_DONTWAIT)));
    printf(", again %s", outcome(recv(s->fd, text, sizeof text, MSG_DONTWAIT)));
    printf(", error %s", errno_name(so_error(s->fd)));
}

static void waiting(struct specimen *s, enum state state) {
    char text[8];
    if (skipped(state) || waits(state))
        return;
    printf("read %s", outcome(read(s->fd, text, sizeof text)));
    if (state != DATA_WAITS)
        printf(", again %s", outcome(read(s->fd, text, sizeof text)));
}

static void other(struct specimen *s, enum state state) {
    char text[8];
    int pending = -1;
    if (skipped(state))
        return;
    printf("peek %s", outcome(recv(s->fd, text, sizeof text, MSG_PEEK | MSG_DONTWAIT)));
    int r = ioctl(s->fd, FIONREAD, &pending);
    printf(", FIONREAD %s %d", outcome(r), pending);
    printf(", nothing %s", outcome(recv(s->fd, text, 0, MSG_DONTWAIT)));
}

int main(void) {
    printf("-- non-blocking\n");
    table(at_once);
    printf("-- blocking\n");
    table(waiting);
    printf("-- peek, count\n");
    table(other);
    return 0;
}
