// TCP_INFO: states, and figures that make sense after a transfer.
#include "probe.h"

static void state(const char *label, int fd) {
    struct tcp_info info = {0};
    socklen_t len = sizeof info;
    int r = getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len);
    printf("%s: %d state %d, length %d\n", label, r, info.tcpi_state, len >= 104);
}

int main(void) {
    int s = listener4(), c, d;
    static char block[1 << 20];
    state("new", tcp4());
    state("listening", s);
    connected_pair(&c, &d);
    state("client", c);
    state("server", d);
    pid_t child = fork();
    if (child == 0) {
        send_all(c, block, sizeof block);
        _exit(0);
    }
    printf("received: %d\n", read_all(d, block, sizeof block) == sizeof block);
    show_status("sender", child);
    struct tcp_info info = {0};
    socklen_t len = sizeof info;
    T(getsockopt(c, IPPROTO_TCP, TCP_INFO, &info, &len));
    printf("rtt %d rttvar %d mss %d rcv_mss %d cwnd %d pmtu %d rto %d\n", info.tcpi_rtt > 0 && info.tcpi_rtt < 5000000,
           info.tcpi_rttvar < 5000000, info.tcpi_snd_mss >= 500 && info.tcpi_snd_mss <= 65535, info.tcpi_rcv_mss > 0,
           info.tcpi_snd_cwnd > 0, info.tcpi_pmtu >= 1200, info.tcpi_rto > 0);
    printf("few retransmits: %d\n", info.tcpi_total_retrans < 100);
    /* A short buffer gets the beginning. */
    unsigned char first = 0;
    len = 1;
    T(getsockopt(c, IPPROTO_TCP, TCP_INFO, &first, &len));
    printf("state %d length %u\n", first, len);
    T(setsockopt(c, IPPROTO_TCP, TCP_INFO, &info, sizeof info));

    T(shutdown(c, SHUT_WR));
    settle(d, POLLRDHUP);
    state("server, peer ended", d);
    T(close(d));
    settle(c, POLLHUP);
    return 0;
}
