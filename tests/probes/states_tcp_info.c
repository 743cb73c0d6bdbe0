// TCP_INFO's state in every state of a socket's life.
// net: silent
#include "states.h"

static void state_number(struct specimen *s, enum state state) {
    (void)state;
    struct tcp_info info;
    socklen_t len = sizeof info;
    int r = getsockopt(s->fd, IPPROTO_TCP, TCP_INFO, &info, &len);
    /* How soon the peer acknowledges the FIN is a matter of time: FIN_WAIT1 or FIN_WAIT2. */
    int shown = info.tcpi_state == TCP_FIN_WAIT2 ? TCP_FIN_WAIT1 : info.tcpi_state;
    printf("%s, state %d", outcome(r), shown);
}

int main(void) {
    table(state_number);
    return 0;
}
