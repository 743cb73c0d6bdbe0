// accept on what is not a listener, and with a hostile address buffer.
#include "probe.h"

int main(void) {
    struct sockaddr_storage a;
    socklen_t len = sizeof a;
    int fresh = tcp4(), bound = tcp4(), c, d;
    struct sockaddr_in any = v4(0);
    MUST(bind(bound, SA(any), sizeof any));
    connected_pair(&c, &d);
    T(accept(fresh, NULL, NULL));
    T(accept(bound, NULL, NULL));
    T(accept(c, NULL, NULL));
    T(accept(d, SA(a), &len));
    T(accept(-1, NULL, NULL));
    T(accept(1000, NULL, NULL));
    T(accept(0, NULL, NULL));
    int udp = (int)MUST(socket(AF_INET, SOCK_DGRAM, 0));
    T(accept(udp, NULL, NULL));

    /* Each of these takes the connection and loses it, or takes it; the next client is served all the same. */
    int s = listener4();
    int c1 = client4(s);
    T(accept(s, SA(a), (void *)8));
    close(c1);
    int c2 = client4(s);
    T(accept(s, SA(a), NULL));
    close(c2);
    int c3 = client4(s);
    len = (socklen_t)-1;
    T(accept(s, SA(a), &len));
    close(c3);
    int c4 = client4(s);
    len = sizeof a;
    T(accept(s, (void *)8, &len));
    close(c4);
    int c5 = client4(s);
    len = sizeof a;
    int fd = TFD(accept(s, SA(a), &len));
    show_addr("accepted", &a, len);
    show_names("c5", c5);
    show_names("accepted", fd);
    return 0;
}
