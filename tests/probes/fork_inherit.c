// Sockets made before a fork work in both processes, in every state.
#include "probe.h"

int main(void) {
    int fresh = tcp4(), s = listener4(), c, d;
    struct sockaddr_in a = v4(port_of(s));
    connected_pair(&c, &d);
    fflush(stdout);

    pid_t child = fork();
    if (child == 0) {
        T(connect(fresh, SA(a), sizeof a));
        show_names("connected by the child", fresh);
        send_all(fresh, "child", 5);
        send_all(c, "child on c", 10);
        _exit(0);
    }
    show_status("child", child);
    show_names("in the parent", fresh);
    int e = TFD(accept(s, NULL, NULL));
    settle(e, POLLIN);
    show_read("server", e);
    settle(d, POLLIN);
    show_read("d", d);
    /* The child's end did not end the connection: the parent holds it too. */
    poll_now(e, QUIET);
    show_poll("server", e);
    send_all(fresh, "parent", 6);
    settle(e, POLLIN);
    show_read("server", e);

    /* The child makes a listener's connection, the parent has closed its copy. */
    int s2 = listener4();
    a = v4(port_of(s2));
    child = fork();
    if (child == 0) {
        int f = (int)MUST(accept(s2, NULL, NULL));
        send_all(f, "served", 6);
        _exit(0);
    }
    close(s2);
    int g = tcp4();
    T(connect(g, SA(a), sizeof a));
    show_status("child", child);
    settle(g, POLLIN);
    show_read("client", g);
    settle(g, POLLRDHUP);
    show_read("client", g);
    int h = tcp4();
    T(connect(h, SA(a), sizeof a));

    /* Bind in the parent, listen in the child. */
    int b = tcp4();
    a = v4(0);
    MUST(bind(b, SA(a), sizeof a));
    child = fork();
    if (child == 0) {
        T(listen(b, 5));
        _exit(0);
    }
    show_status("child", child);
    int i = client4(b);
    TFD(accept(b, NULL, NULL));
    close(i);
    return 0;
}
