// recvmmsg and sendmmsg on a stream.
#include "probe.h"

int main(void) {
    int c, d;
    char text[3][8] = {"abc", "defg", "hi"}, got[3][4];
    connected_pair(&c, &d);
    struct mmsghdr out[3] = {{{0}}}, in[3] = {{{0}}};
    struct iovec vout[3], vin[3];
    for (int i = 0; i < 3; i++) {
        vout[i] = (struct iovec){text[i], strlen(text[i])};
        vin[i] = (struct iovec){got[i], sizeof got[i]};
        out[i].msg_hdr.msg_iov = &vout[i];
        in[i].msg_hdr.msg_iov = &vin[i];
        out[i].msg_hdr.msg_iovlen = in[i].msg_hdr.msg_iovlen = 1;
    }
    T(sendmmsg(c, out, 3, MSG_NOSIGNAL));
    printf("lengths %u %u %u\n", out[0].msg_len, out[1].msg_len, out[2].msg_len);
    char all[16];
    for (int queued = 0; queued != 9;)
        MUST(ioctl(d, FIONREAD, &queued));
    T(recv(d, all, 9, MSG_WAITALL | MSG_PEEK));
    T(recvmmsg(d, in, 3, MSG_DONTWAIT, NULL));
    printf("lengths %u %u %u: %.4s %.4s %.1s\n", in[0].msg_len, in[1].msg_len, in[2].msg_len, got[0], got[1], got[2]);
    T(recvmmsg(d, in, 3, MSG_DONTWAIT, NULL));
    return 0;
}
