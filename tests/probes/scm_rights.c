// A connection, a listener and an unconnected socket passed to another process over a UNIX socket.
#include "probe.h"

static void pass(int over, int fd) {
    char control[CMSG_SPACE(sizeof fd)] = {0}, byte = 'f';
    struct iovec v = {&byte, 1};
    struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *h = CMSG_FIRSTHDR(&m);
    h->cmsg_level = SOL_SOCKET;
    h->cmsg_type = SCM_RIGHTS;
    h->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(h), &fd, sizeof fd);
    MUST(sendmsg(over, &m, 0));
}

static int receive(int over) {
    int fd = -1;
    char control[CMSG_SPACE(sizeof fd)], byte;
    struct iovec v = {&byte, 1};
    struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    MUST(recvmsg(over, &m, 0));
    struct cmsghdr *h = CMSG_FIRSTHDR(&m);
    if (h && h->cmsg_type == SCM_RIGHTS)
        memcpy(&fd, CMSG_DATA(h), sizeof fd);
    return fd;
}

int main(void) {
    int over[2];
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, over));
    pid_t child = fork();
    if (child == 0) {
        close(over[0]);
        int c = receive(over[1]), s = receive(over[1]), fresh = receive(over[1]);
        show_names("passed connection", c);
        show_names("passed listener", s);
        send_all(c, "from the child", 14);
        struct sockaddr_in a = v4(port_of(s));
        T(connect(fresh, SA(a), sizeof a));
        int d = TFD(accept(s, NULL, NULL));
        send_all(fresh, "there", 5);
        settle(d, POLLIN);
        show_read("child", d);
        _exit(0);
    }
    int c, d, s = listener4(), fresh = tcp4();
    connected_pair(&c, &d);
    pass(over[0], c);
    pass(over[0], s);
    pass(over[0], fresh);
    close(c);
    close(s);
    close(fresh);
    show_status("child", child);
    settle(d, POLLIN);
    show_read("peer", d);
    settle(d, POLLRDHUP);
    show_read("peer", d);
    return 0;
}
