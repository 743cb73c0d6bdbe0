// The queue of errors is empty, and asking for it neither waits nor takes data.
#include "probe.h"

static void ask(const char *label, int fd) {
    char byte = 0;
    struct iovec iov = {.iov_base = &byte, .iov_len = 1};
    struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
    struct mmsghdr messages = {.msg_hdr = message};
    printf("%s\n", label);
    T(recvmsg(fd, &message, MSG_ERRQUEUE));
    T(recv(fd, &byte, 1, MSG_ERRQUEUE));
    T(recvmmsg(fd, &messages, 1, MSG_ERRQUEUE, NULL));
}

int main(void) {
    int c, d, fresh = (int)MUST(socket(AF_INET, SOCK_STREAM, 0));
    ask("new", fresh);
    close(fresh);

    connected_pair(&c, &d);
    ask("connected", c);
    send_all(d, "data", 4);
    settle(c, POLLIN);
    ask("with data", c);
    show_read("client", c);

    /* Other sockets are the kernel's. */
    int other = (int)MUST(socket(AF_INET, SOCK_DGRAM, 0));
    ask("datagrams", other);
    return 0;
}
