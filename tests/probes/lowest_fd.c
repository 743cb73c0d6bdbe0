// POSIX: socket and accept return the lowest free descriptor.
#include "probe.h"

int main(void) {
    for (int fd = 3; fd < 64; fd++)
        close(fd);
    int a = (int)T(socket(AF_INET, SOCK_STREAM, 0));
    int b = (int)T(socket(AF_INET, SOCK_STREAM, 0));
    struct sockaddr_in address = v4(0);
    MUST(bind(b, SA(address), sizeof address));
    MUST(listen(b, 5));
    int c = (int)T(socket(AF_INET6, SOCK_STREAM, 0));
    T(close(a));
    a = (int)T(socket(AF_INET, SOCK_STREAM, 0));
    address = v4(port_of(b));
    MUST(connect(a, SA(address), sizeof address));
    T(close(c));
    T(accept(b, NULL, NULL));
    T(accept4(b, NULL, NULL, SOCK_NONBLOCK + 1));
    T(dup(0));
    return 0;
}
