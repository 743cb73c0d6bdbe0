// Every integer option set on a listener, and what the accepted socket says.
#include "probe.h"

static const struct { int level, name, value; const char *label; } options[] = {
    {SOL_SOCKET, SO_REUSEADDR, 1, "REUSEADDR"}, {SOL_SOCKET, SO_REUSEPORT, 1, "REUSEPORT"},
    {SOL_SOCKET, SO_KEEPALIVE, 1, "KEEPALIVE"}, {SOL_SOCKET, SO_BROADCAST, 1, "BROADCAST"},
    {SOL_SOCKET, SO_OOBINLINE, 1, "OOBINLINE"}, {SOL_SOCKET, SO_DONTROUTE, 1, "DONTROUTE"},
    {SOL_SOCKET, SO_PRIORITY, 3, "PRIORITY"}, {SOL_SOCKET, SO_RCVLOWAT, 7, "RCVLOWAT"},
    {SOL_SOCKET, SO_TIMESTAMP, 1, "TIMESTAMP"}, {SOL_SOCKET, SO_RCVBUF, 50000, "RCVBUF"},
    {SOL_SOCKET, SO_SNDBUF, 50000, "SNDBUF"}, {SOL_SOCKET, SO_NO_CHECK, 1, "NO_CHECK"},
    {SOL_SOCKET, SO_SELECT_ERR_QUEUE, 1, "SELECT_ERR_QUEUE"}, {SOL_SOCKET, SO_BUSY_POLL, 5, "BUSY_POLL"},
    {SOL_SOCKET, SO_MAX_PACING_RATE, 1000000, "MAX_PACING_RATE"}, {SOL_SOCKET, SO_LOCK_FILTER, 0, "LOCK_FILTER"},
    {IPPROTO_TCP, TCP_NODELAY, 1, "NODELAY"}, {IPPROTO_TCP, TCP_CORK, 1, "CORK"}, {IPPROTO_TCP, TCP_KEEPIDLE, 44, "KEEPIDLE"},
    {IPPROTO_TCP, TCP_KEEPINTVL, 45, "KEEPINTVL"}, {IPPROTO_TCP, TCP_KEEPCNT, 46, "KEEPCNT"},
    {IPPROTO_TCP, TCP_SYNCNT, 4, "SYNCNT"}, {IPPROTO_TCP, TCP_LINGER2, 30, "LINGER2"},
    {IPPROTO_TCP, TCP_DEFER_ACCEPT, 0, "DEFER_ACCEPT"}, {IPPROTO_TCP, TCP_USER_TIMEOUT, 9000, "USER_TIMEOUT"},
    {IPPROTO_TCP, TCP_NOTSENT_LOWAT, 4096, "NOTSENT_LOWAT"}, {IPPROTO_IP, IP_TOS, 0x20, "TOS"}, {IPPROTO_IP, IP_TTL, 33, "TTL"},
    {IPPROTO_IP, IP_RECVERR, 1, "RECVERR"}, {IPPROTO_IP, IP_FREEBIND, 1, "FREEBIND"},
    {IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DONT, "MTU_DISCOVER"}, {IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1, "NO_PORT"},
};

static int get(int fd, size_t i) {
    int value = -12345;
    socklen_t len = sizeof value;
    return getsockopt(fd, options[i].level, options[i].name, &value, &len) < 0 ? -errno : value;
}

int main(void) {
    for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
        int s = listener4();
        int r = setsockopt(s, options[i].level, options[i].name, &options[i].value, sizeof(int));
        int c = client4(s), d = (int)MUST(accept(s, NULL, NULL));
        printf("%s: set %d, listener %d, accepted %d\n", options[i].label, r, get(s, i), get(d, i));
        close(c);
        close(d);
        close(s);
    }
    return 0;
}
