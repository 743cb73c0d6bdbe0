// accept(2) on a listener that connections were accepted on before, when all call sites are known. Forms of the call, its
// flags and pointers, what the connection inherits; and connections that end without anything but reading, writing and
// closing, by a reset before and after, with data unread, or in other hands.
#include "probe.h"

static struct sockaddr_in where;

static int connecting(void) {
    int c = tcp4();
    MUST(connect(c, SA(where), sizeof where));
    return c;
}

static void show_flags(int fd) {
    printf("descriptor flags %d, nonblocking %d\n", fcntl(fd, F_GETFD), !!(fcntl(fd, F_GETFL) & O_NONBLOCK));
}

/* What was sent each way arrives, and nothing else. */
static void talk(int c, int d) {
    send_all(c, "ping", 4);
    settle_bytes(d, 4);
    show_read("server", d);
    send_all(d, "pong", 4);
    settle_bytes(c, 4);
    show_read("client", c);
}

static void end(int c, int d) {
    close(c);
    settle(d, POLLIN | POLLRDHUP);
    show_read("server", d);
    close(d);
}

static void forms(int s) {
    struct sockaddr_storage peer;
    int c = connecting(), d = TFD(accept(s, NULL, NULL));
    show_flags(d);
    show_names("accepted", d);
    talk(c, d);
    end(c, d);

    c = connecting();
    d = TFD(accept4(s, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC));
    show_flags(d);
    talk(c, d);
    end(c, d);

    /* The address: whole, cut, none of it, and no length. */
    int rooms[] = {sizeof peer, 16, 7, 1, 0};
    for (unsigned i = 0; i < sizeof rooms / sizeof *rooms; i++) {
        socklen_t len = (socklen_t)rooms[i];
        memset(&peer, 0xee, sizeof peer);
        c = connecting();
        d = TFD(accept4(s, SA(peer), &len, SOCK_CLOEXEC));
        struct sockaddr_in own;
        socklen_t own_len = sizeof own;
        MUST(getsockname(c, SA(own), &own_len));
        unsigned kept = len < (unsigned)rooms[i] ? len : (unsigned)rooms[i];
        printf("room %d: length %u, same %d, behind %02x\n", rooms[i], len, memcmp(&peer, &own, kept) == 0,
               ((unsigned char *)&peer)[kept]);
        talk(c, d);
        end(c, d);
    }
}

/* A pointer that cannot be used costs the connection, as does a length that cannot be. */
static void pointers(int s) {
    struct sockaddr_storage peer;
    socklen_t len = sizeof peer, negative = (socklen_t)-1;
    int c = connecting();
    TFD(accept(s, (void *)16, &len));
    /* Kernels differ in whether they write it before the address. */
    printf("length as kernels leave it: %d\n", len == sizeof peer || len == sizeof where);
    settle(c, POLLIN | POLLRDHUP);
    show_read("client", c);
    close(c);
    c = connecting();
    TFD(accept(s, SA(peer), (void *)16));
    settle(c, POLLIN | POLLRDHUP);
    show_read("client", c);
    close(c);
    c = connecting();
    TFD(accept(s, SA(peer), &negative));
    settle(c, POLLIN | POLLRDHUP);
    show_read("client", c);
    close(c);
    c = connecting();
    TFD(accept4(s, NULL, NULL, 1));
    int d = TFD(accept(s, NULL, (void *)16));
    talk(c, d);
    end(c, d);
}

static void waiting(int s) {
    MUST(fcntl(s, F_SETFL, O_NONBLOCK));
    TFD(accept(s, NULL, NULL));
    int c = connecting();
    settle(s, POLLIN);
    int d = TFD(accept(s, NULL, NULL));
    show_flags(d);
    TFD(accept4(s, NULL, NULL, SOCK_NONBLOCK));
    talk(c, d);
    end(c, d);
    MUST(fcntl(s, F_SETFL, 0));
}

static void inherited(int s) {
    int on = 1, off = 0, got = -1;
    socklen_t len = sizeof got;
    MUST(setsockopt(s, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on));
    int c = connecting(), d = TFD(accept(s, NULL, NULL));
    T(getsockopt(d, SOL_SOCKET, SO_KEEPALIVE, &got, &len));
    printf("keep-alive %d\n", got);
    end(c, d);
    MUST(setsockopt(s, SOL_SOCKET, SO_KEEPALIVE, &off, sizeof off));

    struct timeval time = {.tv_sec = 3}, none = {0}, read = {0};
    MUST(setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time));
    c = connecting();
    d = TFD(accept(s, NULL, NULL));
    len = sizeof read;
    T(getsockopt(d, SOL_SOCKET, SO_RCVTIMEO, &read, &len));
    printf("timeout %ld\n", (long)read.tv_sec);
    end(c, d);
    MUST(setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &none, sizeof none));
}

static void set_later(int s) {
    int on = 1, idle = 77, got = -1;
    socklen_t len = sizeof got;
    int c = connecting(), d = TFD(accept(s, NULL, NULL));
    T(setsockopt(d, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on));
    T(setsockopt(d, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle));
    T(getsockopt(d, IPPROTO_TCP, TCP_KEEPIDLE, &got, &len));
    printf("idle %d\n", got);
    T(getsockopt(d, IPPROTO_TCP, TCP_NODELAY, &got, &len));
    printf("nodelay %d\n", got);
    talk(c, d);
    T(shutdown(d, SHUT_WR));
    settle(c, POLLIN | POLLRDHUP);
    show_read("client", c);
    end(c, d);
}

static void reset(int c) {
    struct linger hard = {.l_onoff = 1, .l_linger = 0};
    MUST(setsockopt(c, SOL_SOCKET, SO_LINGER, &hard, sizeof hard));
    close(c);
}

static void show_reset(const char *who, int d) {
    settle(d, POLLERR | POLLHUP);
    show_read(who, d);
    show_read(who, d);
    show_names(who, d);
}

static void resets(int s) {
    int c = connecting(), d = TFD(accept(s, NULL, NULL));
    talk(c, d);
    reset(c);
    show_reset("after accept", d);
    close(d);

    /* Under another number than it was accepted as. */
    c = connecting();
    d = TFD(accept(s, NULL, NULL));
    int copy = (int)MUST(fcntl(d, F_DUPFD, 200));
    close(d);
    reset(c);
    show_reset("a copy", copy);
    close(copy);

    /* In another process. */
    c = connecting();
    d = TFD(accept(s, NULL, NULL));
    pid_t child = (pid_t)MUST(fork());
    if (child == 0) {
        close(c);
        show_reset("a child", d);
        _exit(0);
    }
    close(d);
    reset(c);
    MUST(waitpid(child, NULL, 0));

    c = connecting();
    settle(s, POLLIN);
    reset(c);
    d = TFD(accept(s, NULL, NULL));
    show_reset("before accept", d);
    close(d);

    c = connecting();
    d = TFD(accept(s, NULL, NULL));
    talk(c, d);
    end(c, d);
}

static void unread(int s) {
    int c = connecting(), d = TFD(accept(s, NULL, NULL));
    send_all(c, "unread", 6);
    settle_bytes(d, 6);
    close(d);
    settle(c, POLLERR | POLLHUP);
    show_read("client", c);
    close(c);

    /* A peer that is gone: the first write is taken. */
    c = connecting();
    d = TFD(accept(s, NULL, NULL));
    close(c);
    settle(d, POLLIN | POLLRDHUP);
    T(send(d, "x", 1, MSG_NOSIGNAL));
    settle(d, POLLHUP);
    T(send(d, "x", 1, MSG_NOSIGNAL));
    close(d);
}

int main(void) {
    int s = listener4();
    where = v4(port_of(s));
    for (int round = 1; round <= 3; round++) {
        printf("round %d\n", round);
        forms(s);
        pointers(s);
        waiting(s);
        set_later(s);
        inherited(s);
        unread(s);
        resets(s);
        /* On the old one accept(2) may ask from now on, since its connections were handed on. */
        close(s);
        s = listener4();
        where = v4(port_of(s));
    }
    return 0;
}
