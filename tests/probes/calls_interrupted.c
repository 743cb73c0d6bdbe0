// Signals come at every instruction of a call, and some handlers do not come back to it.
#include "probe.h"
#include <setjmp.h>

static volatile sig_atomic_t signals;
static volatile int leap;
static sigjmp_buf place;

static void on_alarm(int number) {
    (void)number;
    signals++;
    if (leap && signals % 3 == 0)
        siglongjmp(place, 1);
}

int main(void) {
    int fd = MUST(socket(AF_INET, SOCK_STREAM, 0)), udp = MUST(socket(AF_INET, SOCK_DGRAM, 0));
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    MUST(bind(fd, SA(a), sizeof a));
    struct sigaction action = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
    MUST(sigaction(SIGALRM, &action, NULL));
    struct itimerval often = {{0, 200}, {0, 200}};
    MUST(setitimer(ITIMER_REAL, &often, NULL));
    volatile long wrong = 0;
    for (volatile int phase = 0; phase < 2; phase++) {
        signals = 0;
        while (signals < 500) {
            sigsetjmp(place, 1);
            leap = phase;
            for (int call = 0; call < 100 && signals < 500; call++) {
                struct sockaddr_in name = {0};
                socklen_t length = sizeof name;
                int value = 7;
                wrong += getsockname(fd, SA(name), &length) != 0 || name.sin_family != AF_INET || length != sizeof name;
                length = sizeof value;
                wrong += getsockopt(fd, SOL_SOCKET, SO_ERROR, &value, &length) != 0 || value != 0;
                length = sizeof name;
                wrong += getsockname(udp, SA(name), &length) != 0 || length != sizeof name;
                wrong += getpeername(fd, SA(name), &length) != -1 || errno != ENOTCONN;
            }
        }
        leap = 0;
        printf("phase %d: %ld wrong\n", phase, wrong);
    }
    struct itimerval never = {{0, 0}, {0, 0}};
    MUST(setitimer(ITIMER_REAL, &never, NULL));
    return 0;
}
