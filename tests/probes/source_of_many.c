// Clients and a listener that are bound to a broadcast or a multicast address: a client's source is chosen when it connects.
#include "probe.h"

static int from(const char *address, uint16_t port) {
    int fd = tcp4();
    struct sockaddr_in a = v4(port);
    MUST(inet_pton(AF_INET, address, &a.sin_addr) - 1);
    T(bind(fd, SA(a), sizeof a));
    show_names("bound", fd);
    return fd;
}

static void each(const char *address) {
    printf("%s\n", address);
    /* By chance the kernel chooses a port that it had chosen for another address. */
    memset(probe_ports, 0, PROBE_PORTS * sizeof *probe_ports);
    int s = listener4(), c = from(address, 0), refused = from(address, 0);
    struct sockaddr_in to = v4(port_of(s));
    T(connect(c, SA(to), sizeof to));
    int d = TFD(accept(s, NULL, NULL));
    show_names("client", c);
    show_names("server", d);
    send_all(c, "hello", 5);
    settle(d, POLLIN);
    show_read("server", d);
    close(s);
    T(connect(refused, SA(to), sizeof to));
    show_names("refused", refused);
    struct sockaddr unspecified = {.sa_family = AF_UNSPEC};
    T(connect(refused, &unspecified, sizeof unspecified));
    show_names("dissolved", refused);
    close(c);
    close(d);
    close(refused);
    int l = from(address, 0);
    T(listen(l, 1));
    show_names("listening", l);
    close(from(address, port_of(l)));
    close(l);
}

int main(void) {
    each("127.255.255.255");
    each("224.0.0.1");
    each("255.255.255.255");
    return 0;
}
