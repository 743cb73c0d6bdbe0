// A connection is reset behind an accept(2) that came to nothing for want of descriptors: the next one shows the reset.
#include "probe.h"
#include <sys/resource.h>

int main(void) {
    struct linger hard = {.l_onoff = 1, .l_linger = 0};
    struct rlimit all, none;
    int s = listener4(), c = client4(s);
    settle(s, POLLIN);
    MUST(getrlimit(RLIMIT_NOFILE, &all));
    none = all;
    none.rlim_cur = 0;
    MUST(setrlimit(RLIMIT_NOFILE, &none));
    T(accept(s, NULL, NULL));
    MUST(setrlimit(RLIMIT_NOFILE, &all));
    show_poll("listener", s);
    MUST(setsockopt(c, SOL_SOCKET, SO_LINGER, &hard, sizeof hard));
    close(c);
    /* Most likely it has arrived by then; what is shown is the same if not. */
    usleep(QUIET * 1000);
    int d = TFD(accept(s, NULL, NULL));
    settle(d, POLLERR | POLLHUP);
    show_read("server", d);
    show_read("server", d);
    return 0;
}
