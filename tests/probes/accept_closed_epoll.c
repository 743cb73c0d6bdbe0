// Connections whose peers have gone before they are answered: epoll tells nothing of them once they are closed.
#include "probe.h"
#include <sys/epoll.h>

enum { ROUNDS = 40, EACH = 50 };

int main(void) {
    int s = listener4(), poller = (int)MUST(epoll_create1(0)), requests = 0, after = 0;
    struct epoll_event event;
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < EACH; i++) {
            int c = client4(s);
            send_all(c, "request", 7);
            close(c);
        }
        for (int i = 0; i < EACH; i++) {
            char bytes[16];
            int d = (int)MUST(accept4(s, NULL, NULL, SOCK_NONBLOCK));
            event = (struct epoll_event){.events = EPOLLIN, .data.fd = d};
            MUST(epoll_ctl(poller, EPOLL_CTL_ADD, d, &event));
            settle_bytes(d, 7);
            requests += recv(d, bytes, sizeof bytes, 0) == 7;
            send(d, "answer", 6, MSG_NOSIGNAL);
            recv(d, bytes, sizeof bytes, 0);
            close(d);
            after += (int)MUST(epoll_wait(poller, &event, 1, 0));
            after += (int)MUST(epoll_wait(poller, &event, 1, 0));
        }
    }
    printf("%d requests, %d events of closed sockets\n", requests, after);
    return 0;
}
