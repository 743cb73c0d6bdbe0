// SOL_SOCKET: default, set, get, for the options that programs use.
#include "probe.h"

static int get(int fd, int name) {
    int value = -12345;
    socklen_t len = sizeof value;
    if (getsockopt(fd, SOL_SOCKET, name, &value, &len) < 0)
        return -errno;
    return len == sizeof value ? value : -99999;
}

static void flag(const char *label, int fd, int name) {
    int on = 1, off = 0, many = 7;
    printf("%s: default %d", label, get(fd, name));
    errno = 0;
    printf(", set %d %s", setsockopt(fd, SOL_SOCKET, name, &on, sizeof on), errno_name(errno));
    printf(", is %d", get(fd, name));
    setsockopt(fd, SOL_SOCKET, name, &many, sizeof many);
    printf(", of 7 %d", get(fd, name));
    setsockopt(fd, SOL_SOCKET, name, &off, sizeof off);
    printf(", cleared %d\n", get(fd, name));
}

static void readonly(const char *label, int fd, int name) {
    int value = 1;
    errno = 0;
    int r = setsockopt(fd, SOL_SOCKET, name, &value, sizeof value);
    printf("%s: %d, set = %d %s\n", label, get(fd, name), r, errno_name(errno));
}

static void all(const char *label, int fd) {
    printf("-- %s\n", label);
    flag("REUSEADDR", fd, SO_REUSEADDR);
    flag("REUSEPORT", fd, SO_REUSEPORT);
    flag("KEEPALIVE", fd, SO_KEEPALIVE);
    flag("BROADCAST", fd, SO_BROADCAST);
    flag("OOBINLINE", fd, SO_OOBINLINE);
    flag("DONTROUTE", fd, SO_DONTROUTE);
    flag("TIMESTAMP", fd, SO_TIMESTAMP);
    readonly("TYPE", fd, SO_TYPE);
    readonly("DOMAIN", fd, SO_DOMAIN);
    readonly("PROTOCOL", fd, SO_PROTOCOL);
    readonly("ACCEPTCONN", fd, SO_ACCEPTCONN);
    readonly("ERROR", fd, SO_ERROR);
    int lowat = 5;
    printf("RCVLOWAT: %d", get(fd, SO_RCVLOWAT));
    setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &lowat, sizeof lowat);
    printf(" set %d", get(fd, SO_RCVLOWAT));
    lowat = 1;
    setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &lowat, sizeof lowat);
    printf(" again %d, SNDLOWAT %d\n", get(fd, SO_RCVLOWAT), get(fd, SO_SNDLOWAT));
    int priority = 4;
    printf("PRIORITY: %d", get(fd, SO_PRIORITY));
    setsockopt(fd, SOL_SOCKET, SO_PRIORITY, &priority, sizeof priority);
    printf(" set %d\n", get(fd, SO_PRIORITY));
}

int main(void) {
    int s = listener4(), c, d;
    connected_pair(&c, &d);
    all("new", tcp4());
    all("new, IPv6", tcp6());
    all("connected", c);
    all("listening", s);
    struct linger l = {.l_onoff = 1, .l_linger = 42};
    socklen_t len = sizeof l;
    T(setsockopt(c, SOL_SOCKET, SO_LINGER, &l, sizeof l));
    memset(&l, 0, sizeof l);
    T(getsockopt(c, SOL_SOCKET, SO_LINGER, &l, &len));
    printf("linger %d %d length %u\n", l.l_onoff, l.l_linger, len);
    struct timeval t = {.tv_sec = 3, .tv_usec = 500000};
    T(setsockopt(c, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t));
    memset(&t, 0, sizeof t);
    len = sizeof t;
    T(getsockopt(c, SOL_SOCKET, SO_RCVTIMEO, &t, &len));
    printf("timeout %ld %ld length %u\n", (long)t.tv_sec, (long)t.tv_usec, len);
    t.tv_usec = 1000000;
    T(setsockopt(c, SOL_SOCKET, SO_SNDTIMEO, &t, sizeof t));
    return 0;
}
