// readv and writev at their limits; preadv2 and pwritev2 with flags.
#include "probe.h"

enum { MANY = 1024 };

int main(void) {
    int c, d;
    static char bytes[MANY], got[MANY];
    static struct iovec out[MANY + 1], in[MANY + 1];
    connected_pair(&c, &d);
    for (int i = 0; i <= MANY; i++) {
        bytes[i % MANY] = (char)('a' + i % 26);
        out[i] = (struct iovec){&bytes[i % MANY], 1};
        in[i] = (struct iovec){&got[i % MANY], 1};
    }
    T(writev(c, out, MANY));
    settle_bytes(d, MANY);
    T(readv(d, in, MANY));
    printf("equal %d\n", !memcmp(bytes, got, MANY));
    T(writev(c, out, MANY + 1));
    T(readv(d, in, MANY + 1));
    T(writev(c, out, 0));
    T(readv(d, in, 0));
    struct iovec huge = {bytes, (size_t)-1};
    T(writev(c, &huge, 1));
    T(readv(d, &huge, 1));
    T(preadv2(d, in, 1, -1, RWF_NOWAIT));
    T(pwritev2(c, out, 1, -1, 0));
    settle(d, POLLIN);
    T(preadv2(d, in, 1, -1, RWF_NOWAIT));
    T(preadv2(d, in, 1, 0, 0));
    T(pwritev2(c, out, 1, 5, 0));
    T(pwrite(c, bytes, 1, 0));
    struct msghdr m = {.msg_iov = out, .msg_iovlen = MANY + 1};
    T(sendmsg(c, &m, MSG_NOSIGNAL));
    m.msg_iovlen = 3;
    T(sendmsg(c, &m, MSG_NOSIGNAL));
    settle(d, POLLIN);
    m = (struct msghdr){.msg_iov = in, .msg_iovlen = 5};
    T(recvmsg(d, &m, MSG_DONTWAIT));
    printf("flags %x\n", m.msg_flags);
    return 0;
}
