// A blocking connect to a closed port is refused; the same socket can then connect to an open one.
#include "probe.h"

int main(void) {
    int holder, c = tcp4();
    struct sockaddr_in closed = v4(closed_port(&holder));
    T(connect(c, SA(closed), sizeof closed));
    show_error("refused", c);
    T(connect(c, SA(closed), sizeof closed));

    /* A port that nothing holds at all. */
    int gone = listener4();
    struct sockaddr_in nobody = v4(port_of(gone));
    T(close(gone));
    T(connect(c, SA(nobody), sizeof nobody));
    show_error("refused", c);

    int s = listener4();
    struct sockaddr_in a = v4(port_of(s));
    T(connect(c, SA(a), sizeof a));
    int d = TFD(accept(s, NULL, NULL));
    T(write(c, "after", 5));
    settle(d, POLLIN);
    show_read("server", d);
    /* The port that was refused begins to listen. */
    T(listen(holder, 5));
    int e = tcp4();
    T(connect(e, SA(closed), sizeof closed));
    TFD(accept(holder, NULL, NULL));
    /* And stops again. */
    T(close(holder));
    int f = tcp4();
    T(connect(f, SA(closed), sizeof closed));
    return 0;
}
