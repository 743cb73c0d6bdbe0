// A process that has given up root may no longer bind a low port.
#include "probe.h"

int main(void) {
    if (setresuid(65534, 65534, 65534) != 0)
        printf("not root: an ordinary user already\n");
    int s = tcp4();
    struct sockaddr_in a = v4(79);
    T(bind(s, SA(a), sizeof a));
    return 0;
}
