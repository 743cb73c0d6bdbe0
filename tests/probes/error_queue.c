// MSG_ERRQUEUE never waits and never takes data: nothing is in the error queue.
#include "probe.h"

static void show(const char *label, int fd) {
    char bytes[8];
    struct iovec io = {bytes, sizeof bytes};
    struct msghdr m = {.msg_iov = &io, .msg_iovlen = 1};
    struct mmsghdr many = {.msg_hdr = m};
    printf("%s\n", label);
    T(recvmsg(fd, &m, MSG_ERRQUEUE));
    T(recv(fd, bytes, sizeof bytes, MSG_ERRQUEUE));
    T(recvmmsg(fd, &many, 1, MSG_ERRQUEUE, NULL));
}

int main(void) {
    int c, d, fresh = tcp4(), listener = listener4();
    connected_pair(&c, &d);
    show("new", fresh);
    show("listening", listener);
    show("connected", c);
    send_all(d, "data", 4);
    settle(c, POLLIN);
    show("with data", c);
    show_read("then", c);
    return 0;
}
