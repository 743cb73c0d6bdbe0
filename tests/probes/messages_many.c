// recvmmsg's flags and time limit; sendmmsg that ends in the middle.
#include "probe.h"

int main(void) {
    int c, d;
    char got[4][4];
    struct mmsghdr in[4], out[3];
    struct iovec vin[4], vout[3] = {{"ab", 2}, {(void *)8, 2}, {"ef", 2}};
    memset(in, 0, sizeof in);
    memset(out, 0, sizeof out);
    connected_pair(&c, &d);
    for (int i = 0; i < 4; i++) {
        vin[i] = (struct iovec){got[i], sizeof got[i]};
        in[i].msg_hdr.msg_iov = &vin[i];
        in[i].msg_hdr.msg_iovlen = 1;
    }
    for (int i = 0; i < 3; i++) {
        out[i].msg_hdr.msg_iov = &vout[i];
        out[i].msg_hdr.msg_iovlen = 1;
    }
    /* The second has a bad pointer: one was sent, the error waits for the next call. */
    T(sendmmsg(c, out, 3, MSG_NOSIGNAL));
    T(sendmmsg(c, out + 1, 2, MSG_NOSIGNAL));
    T(sendmmsg(c, out, 0, MSG_NOSIGNAL));
    settle(d, POLLIN);
    T(recvmmsg(d, in, 4, MSG_WAITFORONE, NULL));
    printf("length %u\n", in[0].msg_len);
    T(recvmmsg(d, in, 4, MSG_DONTWAIT, NULL));
    struct timespec bad = {.tv_nsec = 2000000000}, limit = {.tv_nsec = 1000000};
    T(recvmmsg(d, in, 1, 0, &bad));
    send_all(c, "abcdefgh", 8);
    poll(NULL, 0, 5);
    T(recvmmsg(d, in, 4, MSG_WAITFORONE, &limit) > 0 ? 0 : -1);
    T(shutdown(c, SHUT_WR));
    settle(d, POLLRDHUP);
    T(recvmmsg(d, in, 2, MSG_DONTWAIT, NULL) > 0 ? 0 : -1);
    return 0;
}
