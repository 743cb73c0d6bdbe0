// gap: The sender's name in recvfrom
// recvfrom and recvmsg say nothing of the sender of a connection's bytes, at either end.
#include "probe.h"

static void show_sender(const char *who, int fd) {
    struct sockaddr_storage from;
    socklen_t len = sizeof from;
    char byte;
    settle_bytes(fd, 2);
    T(recvfrom(fd, &byte, 1, 0, SA(from), &len));
    printf("%s: recvfrom %u\n", who, len);
    struct iovec piece = {&byte, 1};
    struct msghdr message = {.msg_name = &from, .msg_namelen = sizeof from, .msg_iov = &piece, .msg_iovlen = 1};
    T(recvmsg(fd, &message, 0));
    printf("%s: recvmsg %u\n", who, message.msg_namelen);
}

int main(void) {
    int s = listener4(), c = client4(s), d = (int)MUST(accept(s, NULL, NULL));
    send_all(c, "ab", 2);
    send_all(d, "ab", 2);
    show_sender("accepted", d);
    show_sender("connected", c);
    return 0;
}
