// Go 1.24 and later listens with MPTCP where the kernel has it: it must work like TCP.
#include "probe.h"

int main(void) {
    int listener = socket(AF_INET, SOCK_STREAM, 262);
    if (listener < 0 && errno == EPROTONOSUPPORT) {
        printf("no MPTCP here\n");
        return 0;
    }
    struct sockaddr_in a = v4(0);
    T(bind(listener, SA(a), sizeof a));
    T(listen(listener, 5));
    int client = client4(listener);
    int server = TFD(accept(listener, NULL, NULL));
    send_all(client, "hello", 5);
    settle(server, POLLIN);
    show_read("server", server);
    close(client);
    settle(server, POLLIN);
    show_read("server", server);
    return 0;
}
