// Descriptors survive exec unless they are close-on-exec; what they are is still known.
#include "probe.h"

/* After exec: argv[1] is a connection, argv[2] a listener, argv[3] was close-on-exec, argv[4] not connected. */
static int executed(char **argv) {
    int c = atoi(argv[1]), s = atoi(argv[2]), gone = atoi(argv[3]), fresh = atoi(argv[4]), value = -1;
    socklen_t len = sizeof value;
    struct sockaddr_in a = {.sin_family = AF_INET};
    show_names("connection", c);
    show_names("listener", s);
    T(fcntl(gone, F_GETFD));
    T(getsockopt(s, SOL_SOCKET, SO_ACCEPTCONN, &value, &len));
    printf("acceptconn %d\n", value);
    T(getsockopt(c, IPPROTO_TCP, TCP_NODELAY, &value, &len));
    printf("nodelay %d\n", value);
    send_all(c, "after exec", 10);
    a = v4(port_of(s));
    T(connect(fresh, SA(a), sizeof a));
    int d = TFD(accept(s, NULL, NULL));
    send_all(fresh, "hello", 5);
    settle(d, POLLIN);
    show_read("server", d);
    return 5;
}

int main(int argc, char **argv) {
    if (argc == 5)
        return executed(argv);
    int c, d, s = listener4(), on = 1, fresh = tcp4();
    connected_pair(&c, &d);
    int gone = (int)MUST(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    MUST(setsockopt(c, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on));
    pid_t child = fork();
    if (child == 0) {
        char words[4][12];
        int fds[4] = {c, s, gone, fresh};
        for (int i = 0; i < 4; i++)
            snprintf(words[i], sizeof words[i], "%d", fds[i]);
        close(d);
        execl("/proc/self/exe", argv[0], words[0], words[1], words[2], words[3], NULL);
        _exit(99);
    }
    close(c);
    show_status("executed", child);
    settle(d, POLLIN);
    show_read("peer", d);
    settle(d, POLLRDHUP);
    show_read("peer", d);
    return 0;
}
