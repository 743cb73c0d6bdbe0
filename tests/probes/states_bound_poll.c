// What poll says of bound sockets and listeners, before and after shutdown.
// net: silent
// gap: Readiness after shutdown of what is not connected
#include "states.h"

static int how;

static void shut(struct specimen *s, enum state state) {
    if (!bound_or_listens(state) && state != LISTENER_SHUT && state != CONNECTING)
        return;
    printf("%s", poll_names(poll_now(s->fd, 0)));
    shutdown(s->fd, how);
    printf(", shut %s", poll_names(poll_now(s->fd, 0)));
}

int main(void) {
    for (how = SHUT_RD; how <= SHUT_RDWR; how++)
        table(shut);
    return 0;
}
