// An ordinary user may not bind a port below ip_unprivileged_port_start.
// run: user
#include "probe.h"

int main(void) {
    int s = tcp4(), six = tcp6();
    struct sockaddr_in a = v4(81);
    printf("root: %d\n", geteuid() == 0);
    T(bind(s, SA(a), sizeof a));
    struct sockaddr_in6 b = v6(81);
    T(bind(six, SA(b), sizeof b));
    a = v4(0);
    T(bind(s, SA(a), sizeof a));
    T(listen(s, 5));
    int client = client4(s);
    TFD(accept(s, NULL, NULL));
    show_names("client", client);
    return 0;
}
