// Bad pointers in the calls that move data: EFAULT, and no byte of the connection is lost for it.
#include "probe.h"

int main(void) {
    int c, d;
    /* The compiler must not see through it. */
    char *volatile bad = (void *)8;
    char text[16] = "";
    connected_pair(&c, &d);
    T(write(c, bad, 4));
    T(send(c, bad, 4, MSG_NOSIGNAL));
    struct iovec v = {bad, 4}, mixed[2] = {{text, 0}, {bad, 4}};
    T(writev(c, &v, 1));
    T(writev(c, mixed, 2));
    T(writev(c, (void *)bad, 1));
    struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1};
    T(sendmsg(c, &m, MSG_NOSIGNAL));
    T(sendmsg(c, (void *)bad, MSG_NOSIGNAL));
    send_all(c, "data", 4);
    settle(d, POLLIN);
    T(read(d, bad, 4));
    T(recv(d, bad, 4, MSG_PEEK));
    T(readv(d, &v, 1));
    T(recvmsg(d, &m, 0));
    T(recvmsg(d, (void *)bad, 0));
    T(ioctl(d, FIONREAD, bad));
    show_read("still there", d);
    T(poll((void *)bad, 1, 0));
    socklen_t len = sizeof text;
    send_all(c, "more", 4);
    settle(d, POLLIN);
    T(recvfrom(d, text, 4, 0, (void *)bad, &len));
    T(setsockopt(d, SOL_SOCKET, SO_KEEPALIVE, bad, 4));
    T(getsockopt(d, SOL_SOCKET, SO_KEEPALIVE, bad, &len));
    return 0;
}
