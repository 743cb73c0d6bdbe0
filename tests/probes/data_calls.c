// The many ways to read and write a stream.
#include "probe.h"

static void show(const char *label, const char *data, long n) {
    printf("%s: %ld \"%.*s\"\n", label, n, n > 0 ? (int)n : 0, data);
}

int main(void) {
    int c, d, pending = -1;
    char a[64] = "", b[64] = "";
    connected_pair(&c, &d);

    struct iovec out[3] = {{"one ", 4}, {"", 0}, {"two", 3}};
    T(writev(c, out, 3));
    settle(d, POLLIN);
    T(ioctl(d, FIONREAD, &pending));
    printf("pending %d\n", pending);
    struct iovec in[2] = {{a, 2}, {b, sizeof b}};
    T(readv(d, in, 2));
    show("a", a, 2);
    show("b", b, 5);

    struct msghdr m = {.msg_iov = out, .msg_iovlen = 3};
    T(sendmsg(c, &m, MSG_NOSIGNAL));
    settle(d, POLLIN);
    T(recv(d, a, sizeof a, MSG_PEEK));
    T(recv(d, a, 3, MSG_PEEK));
    show("peeked", a, 3);
    struct sockaddr_storage from;
    memset(&from, 0xaa, sizeof from);
    m = (struct msghdr){.msg_name = &from, .msg_namelen = sizeof from, .msg_iov = in, .msg_iovlen = 2};
    T(recvmsg(d, &m, 0));
    printf("name length %u, flags %x\n", m.msg_namelen, m.msg_flags);

    socklen_t len = sizeof from;
    send_all(c, "recvfrom", 8);
    settle(d, POLLIN);
    T(recvfrom(d, a, sizeof a, 0, SA(from), &len));
    show("got", a, 8);

    T(recv(d, a, sizeof a, MSG_DONTWAIT));
    T(recv(d, a, 0, MSG_DONTWAIT));
    T(read(d, a, 0));
    T(write(c, "", 0));
    T(send(c, "", 0, MSG_NOSIGNAL));
    T(recv(d, a, sizeof a, MSG_DONTWAIT));

    /* MSG_WAITALL waits for all of it, from several writes. */
    pid_t child = fork();
    if (child == 0) {
        send_all(c, "first", 5);
        poll(NULL, 0, QUIET);
        send_all(c, "second", 6);
        _exit(0);
    }
    memset(a, 0, sizeof a);
    T(recv(d, a, 11, MSG_WAITALL));
    show("whole", a, 11);
    show_status("writer", child);
    /* … or to the end of data. */
    send_all(c, "rest", 4);
    T(shutdown(c, SHUT_WR));
    T(recv(d, a, 11, MSG_WAITALL));
    T(recv(d, a, 11, MSG_WAITALL));

    T(read(d, NULL, 0));
    T(send(d, NULL, 5, MSG_NOSIGNAL));
    T(pread(d, a, 1, 0));
    T(lseek(d, 0, SEEK_SET));
    return 0;
}
