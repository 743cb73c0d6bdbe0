// TCP ignores the address of sendto on a connected socket, and sendmsg's.
// gap: sendto with an address on a connected socket
#include "probe.h"

int main(void) {
    int c, d;
    struct sockaddr_in a = v4(9);
    struct iovec v = {"m", 1};
    struct msghdr m = {.msg_name = &a, .msg_namelen = sizeof a, .msg_iov = &v, .msg_iovlen = 1};
    connected_pair(&c, &d);
    T(sendto(c, "x", 1, MSG_NOSIGNAL, SA(a), sizeof a));
    T(sendmsg(c, &m, MSG_NOSIGNAL));
    return 0;
}
