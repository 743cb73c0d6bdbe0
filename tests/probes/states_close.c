// close() in every state: what it returns, and what the other end sees of it.
// net: silent
#include "states.h"

static void do_close(struct specimen *s, enum state state) {
    char text[8];
    printf("%s", outcome(close(s->fd)));
    s->fd = -1;
    if (s->peer < 0)
        return;
    /* A reset, where data or a connection was left unread; an end otherwise. */
    int reset = state == DATA_WAITS || state == ONE_WAITS;
    settle(s->peer, reset ? POLLERR | POLLHUP : POLLIN | POLLRDHUP);
    printf(", peer %s", poll_names(poll_now(s->peer, 0)));
    printf(", reads %s", outcome(recv(s->peer, text, sizeof text, MSG_DONTWAIT)));
    printf(", then %s", outcome(recv(s->peer, text, sizeof text, MSG_DONTWAIT)));
    printf(", error %s", errno_name(so_error(s->peer)));
}

static void close_a_copy(struct specimen *s, enum state state) {
    (void)state;
    int copy = dup(s->fd);
    printf("%s", outcome(close(s->fd)));
    s->fd = copy;
    struct sockaddr_in a;
    socklen_t len = sizeof a;
    printf(", the copy lives %s", outcome(getsockname(copy, SA(a), &len)));
    if (s->peer >= 0)
        printf(", peer %s", poll_names(poll_now(s->peer, 0)));
}

int main(void) {
    table(do_close);
    printf("-- one of two copies\n");
    table(close_a_copy);
    return 0;
}
