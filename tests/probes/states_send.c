// send() in every state but the unconnected, blocking and not. After a failure the kernel's errno is another: see refused_read_write.c
// and reset_then_write.c.
// net: silent
#include "states.h"

static void do_send(struct specimen *s, int flags) {
    printf("send %s", outcome(send(s->fd, "x", 1, flags | MSG_NOSIGNAL)));
    printf(", again %s", outcome(send(s->fd, "x", 1, flags | MSG_NOSIGNAL)));
    printf(", error %s", errno_name(so_error(s->fd)));
}

static int skipped(enum state state) {
    /* The second write to a closed peer depends on when its answer arrives; write_after_close.c waits for it. */
    if (unconnected(state) || bound_or_listens(state))
        return 1;
    return state == REFUSED_LATER || state == RESET || state == PEER_CLOSED || state == PEER_CLOSED_DATA;
}

static void at_once(struct specimen *s, enum state state) {
    if (!skipped(state))
        do_send(s, MSG_DONTWAIT);
}

static void waiting(struct specimen *s, enum state state) {
    if (!skipped(state) && state != CONNECTING)
        do_send(s, 0);
}

static void nothing(struct specimen *s, enum state state) {
    if (!skipped(state) && state != CONNECTING)
        printf("nothing %s", outcome(send(s->fd, "", 0, MSG_NOSIGNAL | MSG_DONTWAIT)));
}

int main(void) {
    printf("-- non-blocking\n");
    table(at_once);
    printf("-- blocking\n");
    table(waiting);
    printf("-- nothing\n");
    table(nothing);
    return 0;
}
