// Urgent data.
// gap: MSG_OOB
#include "probe.h"

int main(void) {
    int c, d, mark = -1;
    char text[8] = "";
    connected_pair(&c, &d);
    send_all(c, "ab", 2);
    T(send(c, "!", 1, MSG_OOB));
    poll(&(struct pollfd){.fd = d, .events = POLLPRI}, 1, 200);
    show_poll("server", d);
    T(recv(d, text, sizeof text, MSG_OOB));
    T(recv(d, text, sizeof text, 0));
    T(ioctl(d, 0x8905 /* SIOCATMARK */, &mark));
    return 0;
}
