// bind(2) of sockets that are not TCP's, again and again from one place: --mode zpoline leaves most of them to the kernel.
#include "probe.h"

#include <linux/netlink.h>
#include <sys/un.h>

static void unix_names(void) {
    struct sockaddr_un path = {.sun_family = AF_UNIX, .sun_path = "socket"};
    int first = MUST(socket(AF_UNIX, SOCK_STREAM, 0));
    T(bind(first, SA(path), sizeof path));
    T(bind(first, SA(path), sizeof path));
    int second = MUST(socket(AF_UNIX, SOCK_DGRAM, 0));
    T(bind(second, SA(path), sizeof path));
    T(unlink(path.sun_path));
    T(bind(second, SA(path), sizeof path));
    T(unlink(path.sun_path));
    T(bind(second, SA(path), 1));
    T(bind(second, SA(path), 1000));
    T(bind(second, (void *)8, sizeof path));
    show_names("datagrams", second);
    close(first);
    close(second);
}

static void netlink(void) {
    struct sockaddr_nl address = {.nl_family = AF_NETLINK};
    /* Of two protocols: the second has the number of UDP, and does not exist. */
    int fd = MUST(socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE));
    T(bind(fd, SA(address), sizeof address));
    T(bind(fd, SA(address), 2));
    T(socket(AF_NETLINK, SOCK_RAW, IPPROTO_UDP));
    close(fd);
}

static void datagrams(void) {
    int first = MUST(socket(AF_INET, SOCK_DGRAM, 0));
    struct sockaddr_in address = v4(0);
    T(bind(first, SA(address), sizeof address));
    address = v4(port_of(first));
    int second = MUST(socket(AF_INET, SOCK_DGRAM, IPPROTO_UDP));
    T(bind(second, SA(address), sizeof address));
    T(close(first));
    T(bind(second, SA(address), sizeof address));
    T(bind(second, SA(address), sizeof address));
    T(port_of(second) == ntohs(address.sin_port));
    close(second);
}

static void no_sockets(void) {
    struct sockaddr_in address = v4(0);
    int ends[2];
    MUST(pipe(ends));
    T(bind(ends[0], SA(address), sizeof address));
    T(bind(-1, SA(address), sizeof address));
    close(ends[0]);
    close(ends[1]);
}

int main(void) {
    for (int i = 0; i < 3; i++) {
        unix_names();
        netlink();
        datagrams();
        no_sockets();
        int tcp = tcp4();
        struct sockaddr_in address = v4(0);
        T(bind(tcp, SA(address), sizeof address));
        T(bind(tcp, SA(address), sizeof address));
        close(tcp);
    }
    return 0;
}
