// One port of the wildcard and of one address at once, with SO_REUSEADDR, one of them listening.
// gap: SO_REUSEADDR for a wildcard and a specific address
#include "probe.h"

int main(void) {
    int a = tcp4(), b = tcp4(), on = 1;
    struct sockaddr_in one = v4(0), any = v4(0);
    MUST(setsockopt(a, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on));
    MUST(setsockopt(b, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on));
    T(bind(a, SA(one), sizeof one));
    any.sin_port = htons(port_of(a));
    any.sin_addr.s_addr = INADDR_ANY;
    T(bind(b, SA(any), sizeof any));
    T(listen(b, 5));
    return 0;
}
