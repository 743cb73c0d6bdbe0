// TCP_NODELAY and TCP_CORK, which many programs set on each connection or around each answer: on a new socket, a connection,
// a listener; seen by another descriptor, a child, another program; bad arguments; the one beside the other. Twice, so
// that the second time all call sites are known.
#include "probe.h"

static int option;

static void show(const char *who, int fd) {
    int value = -12345;
    socklen_t len = sizeof value;
    int r = getsockopt(fd, IPPROTO_TCP, option, &value, &len);
    printf("%s: %d, %d, length %u\n", who, r, value, len);
}

static void set(const char *who, int fd, int value) {
    T(setsockopt(fd, IPPROTO_TCP, option, &value, sizeof value));
    show(who, fd);
}

static void arguments(int fd) {
    long wide = 1L << 32;
    char small = 1;
    T(setsockopt(fd, IPPROTO_TCP, option, &wide, sizeof wide));
    show("a wide 0", fd);
    T(setsockopt(fd, IPPROTO_TCP, option, &small, sizeof small));
    T(setsockopt(fd, IPPROTO_TCP, option, NULL, 4));
    T(setsockopt(fd, IPPROTO_TCP, option, (void *)16, 4));
    T(setsockopt(fd, IPPROTO_TCP, option, &wide, -1));
    T(setsockopt(fd, IPPROTO_TCP, option, &wide, 0));
    show("after bad arguments", fd);
    unsigned char byte = 9;
    socklen_t len = 1;
    T(getsockopt(fd, IPPROTO_TCP, option, &byte, &len));
    printf("a byte: %d, length %u\n", byte, len);
}

/* One does not change the other. */
static void beside(int fd) {
    int other = option == TCP_CORK ? TCP_NODELAY : TCP_CORK, on = 1, value = -1;
    socklen_t len = sizeof value;
    T(setsockopt(fd, IPPROTO_TCP, other, &on, sizeof on));
    set("beside", fd, 0);
    T(getsockopt(fd, IPPROTO_TCP, other, &value, &len));
    printf("the other: %d\n", value);
    set("beside", fd, 1);
    on = 0;
    T(setsockopt(fd, IPPROTO_TCP, other, &on, sizeof on));
    show("beside", fd);
}

static void round_of(const char *self, int number) {
    printf("round %d, option %d\n", number, option);
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
    beside(c);
    beside(d);
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
        char text[16], name[16];
        show("child", c);
        snprintf(text, sizeof text, "%d", c);
        snprintf(name, sizeof name, "%d", option);
        execl(self, self, text, name, NULL);
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
    if (argc == 3) {
        option = atoi(argv[2]);
        show("another program", atoi(argv[1]));
        set("another program", atoi(argv[1]), 0);
        return 0;
    }
    for (int number = 1; number <= 2; number++) {
        option = TCP_NODELAY;
        round_of(argv[0], number);
        option = TCP_CORK;
        round_of(argv[0], number);
    }
    return 0;
}
