// A program that goes to another network namespace, and connects to itself there: sockets made before and after.
// Twice, so that the second time all call sites are known.
#include "probe.h"
#include <net/if.h>
#include <sched.h>

static void lo_up(void) {
    int s = (int)MUST(socket(AF_INET, SOCK_DGRAM, 0));
    struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
    MUST(ioctl(s, SIOCSIFFLAGS, &request));
    close(s);
}

static void converse(const char *what, int s, int c) {
    struct sockaddr_in a = v4(0);
    printf("%s\n", what);
    T(bind(s, SA(a), sizeof a));
    T(listen(s, 5));
    a = v4(port_of(s));
    T(connect(c, SA(a), sizeof a));
    int d = TFD(accept(s, NULL, NULL));
    T(write(c, "over", 4));
    settle(d, POLLIN);
    show_read("server", d);
    close(d);
    close(c);
    close(s);
}

int main(void) {
    converse("at home", tcp4(), tcp4());
    for (int i = 0; i < 2; i++) {
        T(unshare(CLONE_NEWNET));
        lo_up();
        converse("away", tcp4(), tcp4());
        converse("away, again", tcp4(), tcp4());
    }
    return 0;
}
