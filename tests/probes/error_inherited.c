// SO_ERROR of a socket that another program has left, asked at a call site that has been used before: refused and reset, into
// values of all lengths, and that it is told once.
#include "probe.h"

static void show(const char *what, int fd, socklen_t length) {
    unsigned char bytes[8];
    memset(bytes, 0xee, sizeof bytes);
    errno = 0;
    int r = getsockopt(fd, SOL_SOCKET, SO_ERROR, bytes, &length);
    printf("%s: %d %s length %u: %d %d %d %d %d\n", what, r, errno_name(errno), length, bytes[0], bytes[1], bytes[2], bytes[3],
           bytes[4]);
}

static int refused_socket(void) {
    int holder, fd = tcp4();
    struct sockaddr_in a = v4(closed_port(&holder));
    MUST(fcntl(fd, F_SETFL, O_NONBLOCK));
    connect(fd, SA(a), sizeof a);
    settle(fd, POLLERR);
    close(holder);
    return fd;
}

static int reset_socket(void) {
    struct linger none = {1, 0};
    int c, d;
    connected_pair(&c, &d);
    MUST(setsockopt(d, SOL_SOCKET, SO_LINGER, &none, sizeof none));
    close(d);
    settle(c, POLLERR);
    return c;
}

static void leave(const char *self, int (*make)(void), const char *length) {
    int fd = make();
    pid_t child = (pid_t)MUST(fork());
    if (child == 0) {
        char number[16];
        snprintf(number, sizeof number, "%d", fd);
        execl(self, self, number, length, NULL);
        _exit(1);
    }
    MUST(waitpid(child, NULL, 0));
    show("left", fd, 4);
    close(fd);
}

int main(int argc, char **argv) {
    if (argc == 3) {
        int udp = (int)MUST(socket(AF_INET, SOCK_DGRAM, 0)), own = tcp4(), fd = atoi(argv[1]);
        for (int i = 0; i < 3; i++) {
            show("another", udp, 4);
            show("new", own, 4);
        }
        show("inherited", fd, (socklen_t)atoi(argv[2]));
        show("again", fd, 4);
        return 0;
    }
    static const char *const lengths[] = {"4", "8", "2", "1", "0", "3"};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        printf("length %s\n", lengths[i]);
        leave(argv[0], refused_socket, lengths[i]);
        leave(argv[0], reset_socket, lengths[i]);
    }
    return 0;
}
