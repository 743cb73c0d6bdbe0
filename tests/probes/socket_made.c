// Sockets on which nothing has been called yet, in the hands of others: a child, another program, who gets them by a
// message, a second descriptor. Twice, so that the second time all call sites are known.
#include "probe.h"
#include <sys/resource.h>

static void use(const char *who, int fd, struct sockaddr_in where) {
    int value = -1;
    socklen_t len = sizeof value;
    printf("%s:\n", who);
    T(getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &value, &len));
    printf("domain %d\n", value);
    T(getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &value, &len));
    printf("protocol %d\n", value);
    show_names("new", fd);
    T(connect(fd, SA(where), sizeof where));
    MUST(write(fd, who, strlen(who)));
}

static void taken(int s) {
    int d = (int)MUST(accept(s, NULL, NULL));
    settle(d, POLLIN);
    show_read("server", d);
    close(d);
}

static void hand_on(const char *self, int round) {
    printf("round %d\n", round);
    int s = listener4();
    struct sockaddr_in a = v4(port_of(s));

    int fd = tcp4();
    T(fcntl(fd, F_GETFD));
    T(fcntl(fd, F_GETFL));
    show_poll("alone", fd);
    uint64_t rate = 0;
    socklen_t len = sizeof rate;
    T(getsockopt(fd, SOL_SOCKET, SO_MAX_PACING_RATE, &rate, &len));
    printf("rate %llx, %u\n", (unsigned long long)rate, len);
    rate = 0x5157ull << 48 | 3;
    T(setsockopt(fd, SOL_SOCKET, SO_MAX_PACING_RATE, &rate, sizeof rate));
    int small = 0;
    len = sizeof small;
    T(getsockopt(fd, SOL_SOCKET, SO_MAX_PACING_RATE, &small, &len));
    printf("rate %x, %u\n", (unsigned)small, len);
    int second = (int)MUST(dup(fd));
    use("a second descriptor", second, a);
    rate = 0;
    len = sizeof rate;
    T(getsockopt(fd, SOL_SOCKET, SO_MAX_PACING_RATE, &rate, &len));
    printf("rate %llx, %u\n", (unsigned long long)rate, len);
    show_names("first", fd);
    taken(s);
    close(fd);
    close(second);

    fd = (int)MUST(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP));
    printf("flags %d, %d\n", fcntl(fd, F_GETFD), !!(fcntl(fd, F_GETFL) & O_NONBLOCK));
    MUST(fcntl(fd, F_SETFL, 0));
    pid_t child = (pid_t)MUST(fork());
    if (child == 0) {
        use("a child", fd, a);
        _exit(0);
    }
    MUST(waitpid(child, NULL, 0));
    show_names("parent", fd);
    taken(s);
    close(fd);

    fd = tcp4();
    child = (pid_t)MUST(fork());
    if (child == 0) {
        char number[16], port[16];
        snprintf(number, sizeof number, "%d", fd);
        snprintf(port, sizeof port, "%d", port_of(s));
        execl(self, self, number, port, NULL);
        _exit(1);
    }
    MUST(waitpid(child, NULL, 0));
    taken(s);
    close(fd);

    int pair[2];
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    child = (pid_t)MUST(fork());
    if (child == 0) {
        use("who gets it by a message", receive_fd(pair[1]), a);
        _exit(0);
    }
    fd = tcp4();
    pass_fd(pair[0], fd);
    close(fd);
    MUST(waitpid(child, NULL, 0));
    taken(s);
    close(pair[0]);
    close(pair[1]);

    T(socket(AF_INET, SOCK_STREAM, 12345));
    T(socket(AF_INET, SOCK_STREAM | 0x100000, 0));
    T(socket(AF_INET, 99, 0));
    T(socket(AF_INET6, SOCK_STREAM, -1));
    struct rlimit limit = {0}, none;
    MUST(getrlimit(RLIMIT_NOFILE, &limit));
    none = limit;
    none.rlim_cur = (rlim_t)s + 1;
    MUST(setrlimit(RLIMIT_NOFILE, &none));
    T(socket(AF_INET, SOCK_STREAM, 0));
    MUST(setrlimit(RLIMIT_NOFILE, &limit));
    close(s);
}

int main(int argc, char **argv) {
    if (argc == 3) {
        use("another program", atoi(argv[1]), v4((uint16_t)atoi(argv[2])));
        return 0;
    }
    hand_on(argv[0], 1);
    hand_on(argv[0], 2);
    return 0;
}
