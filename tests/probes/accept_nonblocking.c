// A non-blocking listener: EAGAIN, readable exactly while a connection waits; O_NONBLOCK is not inherited.
#include "probe.h"

int main(void) {
    int s = listener4();
    nonblocking(s);
    T(accept(s, NULL, NULL));
    show_poll("empty", s);
    int a = client4(s), b = client4(s);
    settle(s, POLLIN);
    show_poll("two wait", s);
    int c = TFD(accept(s, NULL, NULL));
    settle(s, POLLIN);
    show_poll("one waits", s);
    int d = TFD(accept(s, NULL, NULL));
    show_poll("none waits", s);
    T(accept(s, NULL, NULL));
    printf("accepted nonblock: %d %d\n", !!(fcntl(c, F_GETFL) & O_NONBLOCK), !!(fcntl(d, F_GETFL) & O_NONBLOCK));
    printf("accepted cloexec: %d\n", !!(fcntl(c, F_GETFD) & FD_CLOEXEC));
    /* In order of connecting. */
    printf("order: %d %d\n", send(a, "a", 1, 0) == 1, send(b, "b", 1, 0) == 1);
    settle(c, POLLIN);
    settle(d, POLLIN);
    show_read("first", c);
    show_read("second", d);
    return 0;
}
