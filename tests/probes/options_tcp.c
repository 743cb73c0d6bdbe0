// IPPROTO_TCP: default, set, get, for the options that programs use, new and connected.
#include "probe.h"

static int get(int fd, int name) {
    int value = -12345;
    socklen_t len = sizeof value;
    if (getsockopt(fd, IPPROTO_TCP, name, &value, &len) < 0)
        return -errno;
    return len == sizeof value ? value : -99999;
}

static void set(const char *label, int fd, int name, int value) {
    errno = 0;
    int r = setsockopt(fd, IPPROTO_TCP, name, &value, sizeof value), e = errno;
    printf("%s set %d: %d %s, is %d\n", label, value, r, errno_name(e), get(fd, name));
}

static void all(const char *label, int fd) {
    printf("-- %s\n", label);
    printf("NODELAY %d CORK %d KEEPIDLE %d KEEPINTVL %d KEEPCNT %d USER_TIMEOUT %d SYNCNT %d LINGER2 %d DEFER_ACCEPT %d\n",
           get(fd, TCP_NODELAY), get(fd, TCP_CORK), get(fd, TCP_KEEPIDLE), get(fd, TCP_KEEPINTVL), get(fd, TCP_KEEPCNT),
           get(fd, TCP_USER_TIMEOUT), get(fd, TCP_SYNCNT), get(fd, TCP_LINGER2), get(fd, TCP_DEFER_ACCEPT));
    printf("MAXSEG sane %d QUICKACK sane %d\n", get(fd, TCP_MAXSEG) >= 500, get(fd, TCP_QUICKACK) == 0 || get(fd, TCP_QUICKACK) == 1);
    set("NODELAY", fd, TCP_NODELAY, 1);
    set("NODELAY", fd, TCP_NODELAY, 5);
    set("NODELAY", fd, TCP_NODELAY, 0);
    set("CORK", fd, TCP_CORK, 1);
    set("CORK", fd, TCP_CORK, 0);
    set("QUICKACK", fd, TCP_QUICKACK, 1);
    set("KEEPIDLE", fd, TCP_KEEPIDLE, 50);
    set("KEEPIDLE", fd, TCP_KEEPIDLE, 0);
    set("KEEPIDLE", fd, TCP_KEEPIDLE, 32768);
    set("KEEPINTVL", fd, TCP_KEEPINTVL, 7);
    set("KEEPINTVL", fd, TCP_KEEPINTVL, -1);
    set("KEEPCNT", fd, TCP_KEEPCNT, 3);
    set("KEEPCNT", fd, TCP_KEEPCNT, 128);
    set("USER_TIMEOUT", fd, TCP_USER_TIMEOUT, 5000);
    set("USER_TIMEOUT", fd, TCP_USER_TIMEOUT, -1);
    set("SYNCNT", fd, TCP_SYNCNT, 3);
    set("SYNCNT", fd, TCP_SYNCNT, 0);
    set("SYNCNT", fd, TCP_SYNCNT, 128);
}

int main(void) {
    int c, d;
    connected_pair(&c, &d);
    all("new", tcp4());
    all("new, IPv6", tcp6());
    all("connected", c);
    all("accepted", d);
    all("listening", listener4());

    char name[16] = "";
    socklen_t len = sizeof name;
    T(getsockopt(c, IPPROTO_TCP, TCP_CONGESTION, name, &len));
    printf("congestion has a name: %d, length %u\n", strlen(name) > 2, len);
    T(setsockopt(c, IPPROTO_TCP, TCP_CONGESTION, "no-such-algorithm", 17));
    return 0;
}
