// shutdown() of a socket that was never connected fails, and yet is not without effect: then connect, or listen.
// gap: shutdown before connect
#include "probe.h"

int main(void) {
    int s = listener4();
    struct sockaddr_in a = v4(port_of(s));
    static const char *const names[] = {"SHUT_RD", "SHUT_WR", "SHUT_RDWR"};
    for (int how = SHUT_RD; how <= SHUT_RDWR; how++) {
        printf("-- %s\n", names[how]);
        int c = (int)MUST(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
        T(shutdown(c, how));
        T(connect(c, SA(a), sizeof a));
        settle(s, POLLIN);
        int d = TFD(accept(s, NULL, NULL));
        show_poll("client", c);
        show_error("client", c);
        T(send(c, "x", 1, MSG_NOSIGNAL));
        T(recv(c, &a, 1, MSG_PEEK));
        close(c);
        close(d);
        int l = tcp4();
        struct sockaddr_in any = v4(0);
        T(shutdown(l, how));
        T(bind(l, SA(any), sizeof any));
        T(listen(l, 5));
        show_poll("listener", l);
        int e = client4(l);
        settle(l, POLLIN);
        TFD(accept(l, NULL, NULL));
        close(e);
        close(l);
    }
    return 0;
}
