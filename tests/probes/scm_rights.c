// A connection, a listener and an unconnected socket passed to another process over a UNIX socket.
#include "probe.h"

int main(void) {
    int over[2];
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, over));
    pid_t child = fork();
    if (child == 0) {
        close(over[0]);
        int c = receive_fd(over[1]), s = receive_fd(over[1]), fresh = receive_fd(over[1]);
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
    pass_fd(over[0], c);
    pass_fd(over[0], s);
    pass_fd(over[0], fresh);
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
