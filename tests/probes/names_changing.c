// The names of one descriptor that is in turn a socket of each kind, by dup2(2): whatever was known of its number, it is
// the socket that answers. In all of the room, in less, and beside it; with pointers into the stack, the heap, and nowhere.
#include "probe.h"

enum { ROUNDS = 3, KINDS = 9, NUMBER = 90, OTHER_NUMBER, THIRD_NUMBER };

typedef int name_call(int, struct sockaddr *, socklen_t *);

// How many bytes the call writes, of so much room: bytes that are as they were with two values before it.
static size_t written(name_call *call, int fd, unsigned char *bytes, size_t all, socklen_t *len, socklen_t room, int *result) {
    static const unsigned char before[] = {0xa5, 0x5a};
    size_t most = 0;
    for (size_t i = 0; i < sizeof before; i++) {
        memset(bytes, before[i], all);
        *len = room;
        errno = 0;
        *result = call(fd, (struct sockaddr *)bytes, len);
        for (size_t n = most; n < all; n++)
            if (bytes[n] != before[i])
                most = n + 1;
    }
    return most;
}

static void show(const char *what, name_call *call, int fd, unsigned char *bytes, size_t all, socklen_t *len, socklen_t room) {
    int r;
    size_t count = written(call, fd, bytes, all, len, room, &r);
    printf("%s, room for %u: %d %s, length %u, bytes written %zu", what, room, r, errno_name(errno), *len, count);
    struct sockaddr_storage a;
    memcpy(&a, bytes, sizeof a);
    if (r == 0 && room >= *len && (a.ss_family == AF_INET || a.ss_family == AF_INET6))
        show_addr(",", &a, *len);
    else
        printf("\n");
}

static void every(const char *kind, name_call *call, int fd) {
    static const socklen_t rooms[] = {128, 110, 29, 28, 27, 17, 16, 15, 8, 3, 2, 1, 0, (socklen_t)-1};
    unsigned char stack[160];
    unsigned char *heap = malloc(sizeof stack);
    socklen_t *heap_len = malloc(sizeof *heap_len), len;
    printf("-- %s\n", kind);
    for (size_t i = 0; i < sizeof rooms / sizeof *rooms; i++) {
        show("stack", call, fd, stack, sizeof stack, &len, rooms[i]);
        show("heap", call, fd, heap, sizeof stack, heap_len, rooms[i]);
    }
    len = sizeof stack;
    T(call(fd, NULL, &len));
    T(call(fd, (void *)stack, NULL));
    T(call(fd, (void *)stack, (socklen_t *)16));
    show("stack", call, fd, stack, sizeof stack, &len, sizeof stack);
    free(heap);
    free(heap_len);
}

// So often that a descriptor is known as what it was.
static void again(const char *kind, name_call *call, int fd) {
    unsigned char bytes[160];
    socklen_t len;
    for (int i = 0; i < 3; i++)
        show(kind, call, fd, bytes, sizeof bytes, &len, sizeof(struct sockaddr_storage));
}

static int udp(int family, int connected) {
    int fd = MUST(socket(family, SOCK_DGRAM, 0));
    struct sockaddr_in a = v4(0);
    struct sockaddr_in6 a6 = {.sin6_family = AF_INET6, .sin6_addr = in6addr_loopback};
    if (family == AF_INET)
        MUST(bind(fd, SA(a), sizeof a));
    else
        MUST(bind(fd, SA(a6), sizeof a6));
    if (connected) {
        struct sockaddr_storage own;
        socklen_t len = sizeof own;
        MUST(getsockname(fd, SA(own), &len));
        MUST(connect(fd, SA(own), len));
    }
    return fd;
}

int main(void) {
    static const char *const kinds[KINDS] = {
        "UDP", "TCP connection", "UDP, IPv6", "UNIX", "UDP, connected", "TCP, new", "UNIX, named", "UDP, IPv6, connected", "pipe",
    };
    int c, d, unix_pair[2], pipes[2];
    connected_pair(&c, &d);
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, unix_pair));
    MUST(pipe(pipes));
    // Sixteen bytes, as many as a sockaddr_in has.
    struct sockaddr_un named = {.sun_family = AF_UNIX};
    snprintf(named.sun_path + 1, sizeof named.sun_path - 1, "q%012d", getpid());
    int with_name = MUST(socket(AF_UNIX, SOCK_STREAM, 0));
    MUST(bind(with_name, SA(named), 16));
    const int sockets[KINDS] = {
        udp(AF_INET, 0), c, udp(AF_INET6, 0), unix_pair[0], udp(AF_INET, 1), tcp4(), with_name, udp(AF_INET6, 1), pipes[0],
    };
    for (int round = 0; round < ROUNDS; round++)
        for (int kind = 0; kind < KINDS; kind++) {
            for (int number = NUMBER; number <= THIRD_NUMBER; number++)
                MUST(dup2(sockets[kind], number));
            again(kinds[kind], getsockname, NUMBER);
            again(kinds[kind], getpeername, OTHER_NUMBER);
            every(kinds[kind], getsockname, THIRD_NUMBER);
            every(kinds[kind], getpeername, THIRD_NUMBER);
        }
    return 0;
}
