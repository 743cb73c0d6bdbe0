// What an accepted socket has from its listener.
#include "probe.h"

static int get(int fd, int level, int name) {
    int value = -12345;
    socklen_t len = sizeof value;
    return getsockopt(fd, level, name, &value, &len) < 0 ? -errno : value;
}

int main(void) {
    int s = listener4(), on = 1, idle = 77, tos = 0x10;
    struct linger l = {.l_onoff = 1, .l_linger = 9}, got = {0};
    struct timeval t = {.tv_sec = 4}, u = {0};
    socklen_t len = sizeof got;
    MUST(setsockopt(s, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on));
    MUST(setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on));
    MUST(setsockopt(s, SOL_SOCKET, SO_LINGER, &l, sizeof l));
    MUST(setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t));
    MUST(setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on));
    MUST(setsockopt(s, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle));
    MUST(setsockopt(s, IPPROTO_IP, IP_TOS, &tos, sizeof tos));
    int c = client4(s), d = (int)MUST(accept(s, NULL, NULL));
    printf("KEEPALIVE %d REUSEADDR %d NODELAY %d KEEPIDLE %d ACCEPTCONN %d\n", get(d, SOL_SOCKET, SO_KEEPALIVE),
           get(d, SOL_SOCKET, SO_REUSEADDR), get(d, IPPROTO_TCP, TCP_NODELAY), get(d, IPPROTO_TCP, TCP_KEEPIDLE),
           get(d, SOL_SOCKET, SO_ACCEPTCONN));
    T(getsockopt(d, SOL_SOCKET, SO_LINGER, &got, &len));
    printf("linger %d %d\n", got.l_onoff, got.l_linger);
    len = sizeof u;
    T(getsockopt(d, SOL_SOCKET, SO_RCVTIMEO, &u, &len));
    printf("timeout %ld\n", (long)u.tv_sec);
    printf("TOS %d\n", get(d, IPPROTO_IP, IP_TOS));
    printf("the client's: KEEPALIVE %d NODELAY %d\n", get(c, SOL_SOCKET, SO_KEEPALIVE), get(c, IPPROTO_TCP, TCP_NODELAY));
    printf("the listener's: ACCEPTCONN %d\n", get(s, SOL_SOCKET, SO_ACCEPTCONN));
    return 0;
}
