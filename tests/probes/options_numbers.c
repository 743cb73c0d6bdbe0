// The numbers of keep-alive, which many programs set on each connection: smallest and largest, others, one beside the
// other; on a new socket, a connection, a listener; seen by another descriptor, a child, another program; bad arguments.
// TCP_QUICKACK, and SO_INCOMING_CPU, which changes none of them. Twice, so that the second time all call sites are known.
#include "probe.h"

static const int names[] = {TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT};

static void show(const char *who, int fd) {
    printf("%s:", who);
    for (int i = 0; i < 3; i++) {
        int value = -12345;
        socklen_t len = sizeof value;
        int r = getsockopt(fd, IPPROTO_TCP, names[i], &value, &len);
        printf(" %d, %d, length %u;", r, value, len);
    }
    printf("\n");
}

static void set(int fd, int name, int value) {
    printf("option %d to %d: ", name, value);
    T(setsockopt(fd, IPPROTO_TCP, name, &value, sizeof value));
}

static void values(const char *who, int fd) {
    static const int values[] = {
        1, 2, 9, 126, 127, 128, 255, 4094, 4095, 4096, 8190, 8191, 8192, 32766, 32767, 32768, 65536, 0, -1,
        -2147483647 - 1, 2147483647, 0x10001, 75,
    };
    for (int i = 0; i < 3; i++)
        for (size_t v = 0; v < sizeof values / sizeof *values; v++) {
            set(fd, names[i], values[v]);
            show(who, fd);
        }
}

static void arguments(int fd, int name) {
    long wide = (1L << 32) + 5;
    char small = 1;
    T(setsockopt(fd, IPPROTO_TCP, name, &wide, sizeof wide));
    show("a wide 5", fd);
    T(setsockopt(fd, IPPROTO_TCP, name, &small, sizeof small));
    T(setsockopt(fd, IPPROTO_TCP, name, NULL, 4));
    T(setsockopt(fd, IPPROTO_TCP, name, (void *)16, 4));
    T(setsockopt(fd, IPPROTO_TCP, name, &wide, -1));
    T(setsockopt(fd, IPPROTO_TCP, name, &wide, 0));
    show("after bad arguments", fd);
    for (int room = 0; room <= 9; room++) {
        unsigned char bytes[9] = {9, 9, 9, 9, 9, 9, 9, 9, 9};
        socklen_t len = (socklen_t)room;
        T(getsockopt(fd, IPPROTO_TCP, name, bytes, &len));
        printf("%d %d %d %d %d, length %u\n", bytes[0], bytes[1], bytes[2], bytes[3], bytes[4], len);
    }
    socklen_t len = 4;
    T(getsockopt(fd, IPPROTO_TCP, name, (void *)16, &len));
    T(getsockopt(fd, IPPROTO_TCP, name, &wide, (void *)16));
}

static void quick(const char *who, int fd, int value) {
    T(setsockopt(fd, IPPROTO_TCP, TCP_QUICKACK, &value, sizeof value));
    socklen_t len = sizeof value;
    T(getsockopt(fd, IPPROTO_TCP, TCP_QUICKACK, &value, &len));
    printf("%s: quick %d\n", who, value);
}

static void processor(int fd, int is_connected) {
    int value = 1, got = -12345;
    socklen_t len = sizeof got;
    show("before", fd);
    T(setsockopt(fd, SOL_SOCKET, SO_INCOMING_CPU, &value, sizeof value));
    T(getsockopt(fd, SOL_SOCKET, SO_INCOMING_CPU, &got, &len));
    if (is_connected)
        printf("a processor: %d\n", got >= 0 && got < sysconf(_SC_NPROCESSORS_CONF));
    else
        printf("as set: %d\n", got);
    show("after", fd);
}

static void pair(int s, int *c, int *d) {
    struct sockaddr_in a = v4(port_of(s));
    *c = tcp4();
    T(connect(*c, SA(a), sizeof a));
    *d = (int)MUST(accept(s, NULL, NULL));
}

static void round_of(const char *self) {
    int s = listener4(), c, d;
    set(s, TCP_KEEPINTVL, 33);
    pair(s, &c, &d);
    show("connected", c);
    show("accepted", d);
    values("connected", c);
    values("accepted", d);
    for (int i = 0; i < 3; i++) {
        arguments(c, names[i]);
        arguments(d, names[i]);
    }
    for (int value = -1; value <= 2; value++) {
        quick("connected", c, value);
        quick("accepted", d, value);
    }
    processor(c, 1);
    processor(d, 1);
    close(c);
    close(d);

    c = tcp4();
    show("new", c);
    processor(c, 0);
    set(c, TCP_KEEPIDLE, 44);
    show("new", c);
    close(c);

    /* What was set on a connection goes on to other descriptors, processes and programs. */
    pair(s, &c, &d);
    int second = (int)MUST(dup(d));
    set(d, TCP_KEEPCNT, 3);
    set(d, TCP_KEEPIDLE, 300);
    show("second descriptor", second);
    pid_t child = (pid_t)MUST(fork());
    if (child == 0) {
        char text[16];
        show("child", d);
        set(d, TCP_KEEPINTVL, 100);
        snprintf(text, sizeof text, "%d", d);
        execl(self, self, text, NULL);
        _exit(1);
    }
    MUST(waitpid(child, NULL, 0));
    show("parent", d);
    set(d, TCP_KEEPINTVL, 6000);
    show("parent", d);

    close(c);
    settle(d, POLLRDHUP);
    set(d, TCP_KEEPINTVL, 7);
    show("half closed", d);
    shutdown(d, SHUT_RDWR);
    settle(d, POLLHUP);
    show("ended", d);
    close(d);
    close(second);
    close(s);
}

int main(int argc, char **argv) {
    if (argc == 2) {
        int fd = atoi(argv[1]);
        show("another program", fd);
        for (int i = 0; i < 3; i++) {
            set(fd, names[i], 20 + i);
            show("another program", fd);
        }
        return 0;
    }
    round_of(argv[0]);
    round_of(argv[0]);
    return 0;
}
