// The data calls on a socket that is not connected: new, bound, refused, listening.
// net: silent
// gap: The errno of read and write on an unconnected socket
#include "states.h"

static void data_calls(struct specimen *s, enum state state) {
    char text[128];
    int pending = -1;
    if (!unconnected(state) && !bound_or_listens(state))
        return;
    printf("recv %s", outcome(recv(s->fd, text, sizeof text, MSG_DONTWAIT)));
    printf(", peek %s", outcome(recv(s->fd, text, sizeof text, MSG_PEEK | MSG_DONTWAIT)));
    printf(", nothing %s", outcome(recv(s->fd, text, 0, MSG_DONTWAIT)));
    printf(", send %s", outcome(send(s->fd, "x", 1, MSG_DONTWAIT | MSG_NOSIGNAL)));
    printf(", FIONREAD %s", outcome(ioctl(s->fd, FIONREAD, &pending)));
    printf(", error %s", errno_name(so_error(s->fd)));
}

int main(void) {
    table(data_calls);
    return 0;
}
