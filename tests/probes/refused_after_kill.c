// The last process that holds a listener is killed: once that is known, clients are refused.
#include "probe.h"

int main(void) {
    int s = listener4();
    struct sockaddr_in a = v4(port_of(s));
    struct gate ready = gate();
    pid_t child = fork();
    if (child == 0) {
        int d = (int)MUST(accept(s, NULL, NULL));
        send_all(d, "x", 1);
        gate_open(ready);
        for (;;)
            pause();
    }
    close(s);
    int c = tcp4();
    T(connect(c, SA(a), sizeof a));
    gate_wait(ready);
    kill(child, SIGKILL);
    show_status("server", child);
    int e = tcp4();
    T(connect(e, SA(a), sizeof a));
    return 0;
}
