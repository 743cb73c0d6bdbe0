// Connections that one thread begins one after another are accepted in that order, also by a server that is not known yet.
#include "probe.h"

enum { TRIALS = 15, CONNECTIONS = 7 };

static int is_in_order(int s) {
    struct sockaddr_in where = v4(port_of(s)), name;
    int clients[CONNECTIONS], accepted[CONNECTIONS], in_order = 1;
    in_port_t ports[CONNECTIONS];
    for (int i = 0; i < CONNECTIONS; i++) {
        clients[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        if (connect(clients[i], SA(where), sizeof where) == 0 || errno != EINPROGRESS)
            printf("connect: %s\n", errno_name(errno));
        socklen_t len = sizeof name;
        MUST(getsockname(clients[i], SA(name), &len));
        ports[i] = name.sin_port;
    }
    for (int i = 0; i < CONNECTIONS; i++) {
        socklen_t len = sizeof name;
        accepted[i] = (int)MUST(accept(s, SA(name), &len));
        in_order &= name.sin_port == ports[i];
    }
    for (int i = 0; i < CONNECTIONS; i++) {
        close(clients[i]);
        close(accepted[i]);
    }
    return in_order;
}

int main(void) {
    for (int i = 0; i < TRIALS; i++) {
        int s = listener4();
        printf("at first: in order %d\n", is_in_order(s));
        printf("then: in order %d\n", is_in_order(s));
        close(s);
    }
    return 0;
}
