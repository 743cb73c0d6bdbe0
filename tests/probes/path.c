// What TCP_INFO, TCP_MAXSEG and IP_MTU say of a path: at once after connect and accept, and when the connection is over.
#include "probe.h"

static void path(const char *label, int fd) {
    struct tcp_info info = {0};
    socklen_t len = sizeof info;
    MUST(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len));
    int mtu = 0, mss = 0;
    len = sizeof mtu;
    int r = getsockopt(fd, IPPROTO_IP, IP_MTU, &mtu, &len), e = errno;
    len = sizeof mss;
    MUST(getsockopt(fd, IPPROTO_TCP, TCP_MAXSEG, &mss, &len));
    printf("%s: state %d, mss %d, pmtu %d, rtt %d, cwnd %d; IP_MTU %s %d; TCP_MAXSEG %d\n", label, info.tcpi_state,
           info.tcpi_snd_mss > 1000, info.tcpi_pmtu > 1000, info.tcpi_rtt > 0, info.tcpi_snd_cwnd > 0,
           r < 0 ? errno_name(e) : "", mtu > 1000, mss > 1000);
}

static void settle_state(int fd, int state) {
    struct tcp_info info;
    socklen_t len = sizeof info;
    for (int turn = 0; turn < SOON; turn++) {
        MUST(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len));
        if (info.tcpi_state == state)
            return;
        usleep(1000);
    }
}

int main(void) {
    int l = listener4();
    int c = client4(l);
    path("connected", c);
    int d = (int)MUST(accept(l, NULL, NULL));
    path("accepted", d);

    send_all(c, "data", 4);
    settle_bytes(d, 4);
    MUST(shutdown(c, SHUT_WR));
    MUST(read(d, (char[8]){0}, 8));
    settle(d, POLLIN | POLLRDHUP);
    path("the peer has finished", d);
    MUST(shutdown(d, SHUT_WR));
    settle(c, POLLIN | POLLHUP);
    settle_state(d, TCP_CLOSE);
    path("both have, the second", d);
    close(d);

    connected_pair(&c, &d);
    struct linger reset = {.l_onoff = 1};
    MUST(setsockopt(d, SOL_SOCKET, SO_LINGER, &reset, sizeof reset));
    close(d);
    settle(c, POLLERR | POLLHUP);
    path("reset", c);

    l = listener4();
    c = tcp4();
    nonblocking(c);
    struct sockaddr_in a = v4(port_of(l));
    connect(c, SA(a), sizeof a);
    settle(c, POLLOUT);
    so_error(c);
    d = (int)MUST(accept(l, NULL, NULL));
    MUST(setsockopt(d, SOL_SOCKET, SO_LINGER, &reset, sizeof reset));
    close(d);
    settle(c, POLLERR | POLLHUP);
    path("reset, and connect has never said 0", c);
    return 0;
}
