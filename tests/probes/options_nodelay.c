// TCP_NODELAY, which many programs set on each connection: on a new socket, a connection, a listener; seen by another
// descriptor, a child, another program; bad arguments. Twice, so that the second time all call sites are known.
#include "probe.h"

static void show(const char *who, int fd) {
    int value = -12345;
    socklen_t len = sizeof value;
    int r = getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &value, &len);
    printf("%s: %d, %d, length %u\n", who, r, value, len);
}

static void set(const char *who, int fd, int value) {
    T(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &value, sizeof value));
    show(who, fd);
}

static void arguments(int fd) {
    long wide = 1L << 32;
    char small = 1;
    T(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &wide, sizeof wide));
    show("a wide 0", fd);
    T(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &small, sizeof small));
    T(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, NULL, 4));
    T(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, (void *)16, 4));
    T(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &wide, -1));
    T(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &wide, 0));
    show("after bad arguments", fd);
    unsigned char byte = 9;
    socklen_t len = 1;
    T(getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &byte, &len));
    printf("a byte: %d, length %u\n", byte, len);
}

static void round_of(const char *self, int number) {
    printf("round %d\n", number);
    int s = listener4(), c = tcp4();
    show("new", c);
    set("new", c, 1);
    struct sockaddr_in a = v4(port_of(s));
    T(connect(c, SA(a), sizeof a));
    show("connected", c);
    int d = (int)MUST(accept(s, NULL, NULL));
    show("accepted", d);
    arguments(c);
    set("connected", c, 2);
    set("connected", c, 0);
    set("connected", c, -1);
    arguments(d);
    set("accepted", d, 1);
    set("listener", s, 1);
    close(d);
    close(c);

    /* What was set on a connection goes on to other descriptors, processes and programs. */
    c = tcp4();
    T(connect(c, SA(a), sizeof a));
    d = (int)MUST(accept(s, NULL, NULL));
    show("of a listener that has it", d);
    int second = (int)MUST(dup(c));
    set("connected", c, 1);
    show("second descriptor", second);
    pid_t child = (pid_t)MUST(fork());
    if (child == 0) {
        char text[16];
        show("child", c);
        snprintf(text, sizeof text, "%d", c);
        execl(self, self, text, NULL);
        _exit(1);
    }
    MUST(waitpid(child, NULL, 0));
    show("parent", c);
    set("parent", c, 1);

    shutdown(c, SHUT_RDWR);
    close(d);
    settle(c, POLLHUP);
    show("ended", c);
    close(c);
    close(second);
    close(s);
}

int main(int argc, char **argv) {
    if (argc == 2) {
        show("another program", atoi(argv[1]));
        set("another program", atoi(argv[1]), 0);
        return 0;
    }
    round_of(argv[0], 1);
    round_of(argv[0], 2);
    return 0;
}
