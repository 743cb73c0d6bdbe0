// Port 0 takes a port of the kernel's choice, at bind or at listen.
#include "probe.h"

int main(void) {
    int a = tcp4(), b = tcp4(), c = tcp4(), d = tcp6();
    struct sockaddr_in any = v4(0);
    show_names("new", a);
    T(bind(a, SA(any), sizeof any));
    show_names("bound", a);
    printf("ephemeral: %d\n", port_of(a) >= 1024);
    T(bind(b, SA(any), sizeof any));
    show_names("second", b);
    printf("different: %d\n", port_of(a) != port_of(b));
    any.sin_addr.s_addr = INADDR_ANY;
    T(bind(c, SA(any), sizeof any));
    show_names("wildcard", c);
    struct sockaddr_in6 six = {.sin6_family = AF_INET6};
    T(bind(d, SA(six), sizeof six));
    show_names("wildcard 6", d);
    int e = tcp4();
    T(listen(e, 5));
    printf("listen without bind took a port: %d\n", port_of(e) > 0);
    show_names("unbound listener", e);
    return 0;
}
