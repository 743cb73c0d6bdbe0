// Every socket call on what is no socket, and on no descriptor at all.
#include "probe.h"

static void every(const char *label, int fd) {
    struct sockaddr_in a = v4(1);
    socklen_t len = sizeof a;
    int value = 1;
    char text[4];
    struct iovec v = {text, sizeof text};
    struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1};
    struct mmsghdr mm = {.msg_hdr = m};
    printf("-- %s\n", label);
    T(bind(fd, SA(a), sizeof a));
    T(connect(fd, SA(a), sizeof a));
    T(listen(fd, 1));
    T(accept(fd, SA(a), &len));
    T(accept4(fd, NULL, NULL, SOCK_CLOEXEC));
    T(shutdown(fd, SHUT_RDWR));
    T(getsockname(fd, SA(a), &len));
    T(getpeername(fd, SA(a), &len));
    T(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &value, sizeof value));
    T(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &value, sizeof value));
    T(getsockopt(fd, SOL_SOCKET, SO_ERROR, &value, &len));
    T(getsockopt(fd, IPPROTO_IP, IP_TOS, &value, &len));
    T(send(fd, "x", 1, MSG_NOSIGNAL));
    T(sendto(fd, "x", 1, MSG_NOSIGNAL, SA(a), sizeof a));
    T(recv(fd, text, 1, MSG_DONTWAIT));
    T(sendmsg(fd, &m, MSG_NOSIGNAL));
    T(recvmsg(fd, &m, MSG_DONTWAIT));
    T(sendmmsg(fd, &mm, 1, MSG_NOSIGNAL));
    T(recvmmsg(fd, &mm, 1, MSG_DONTWAIT, NULL));
}

int main(void) {
    int pipes[2], gone = tcp4();
    MUST(pipe(pipes));
    close(gone);
    every("pipe", pipes[0]);
    every("file", open("/proc/self/exe", O_RDONLY));
    every("epoll", epoll_create1(0));
    every("path", open("/", O_PATH));
    every("closed", gone);
    every("negative", -1);
    every("far", 1 << 30);
    return 0;
}
