// poll on a socket that is bound and no more.
// gap: Sockets that are bound or listen
#include "probe.h"

int main(void) {
    int bound = tcp4();
    struct sockaddr_in a = v4(0);
    T(bind(bound, SA(a), sizeof a));
    show_poll("bound", bound);
    return 0;
}
