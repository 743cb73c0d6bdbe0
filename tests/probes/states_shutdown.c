// shutdown() of each kind in every state, and what poll and the peer see of it.
// net: silent
#include "states.h"

static int how;

/* What poll says of these is shown by states_bound_poll.c. */
static int elsewhere(enum state state) {
    return bound_or_listens(state) || state == LISTENER_SHUT || state == CONNECTING;
}

static void do_shutdown(struct specimen *s, enum state state) {
    printf("%s", outcome(shutdown(s->fd, how)));
    if (s->peer >= 0 && state != ONE_WAITS && how != SHUT_RD)
        settle(s->peer, POLLIN);
    if (!elsewhere(state))
        printf(", %s", poll_names(poll_now(s->fd, 0)));
    if (s->peer >= 0 && state != ONE_WAITS)
        printf(", peer %s", poll_names(poll_now(s->peer, 0)));
    printf(", again %s", outcome(shutdown(s->fd, how)));
    printf(", error %s", errno_name(so_error(s->fd)));
}

int main(void) {
    static const char *const names[] = {"SHUT_RD", "SHUT_WR", "SHUT_RDWR"};
    for (how = SHUT_RD; how <= SHUT_RDWR; how++) {
        printf("-- %s\n", names[how]);
        table(do_shutdown);
    }
    return 0;
}
