// Many connections at once to two processes that accept them without waiting: each is accepted once, is whose the address
// says, and its bytes are there.
#include "probe.h"

enum { CLIENTS = 4, EACH = 150, SERVERS = 2, TOTAL = CLIENTS * EACH };

static uint32_t *counts;

static void client(struct sockaddr_in where, int number) {
    for (int i = 0; i < EACH; i++) {
        int c = tcp4();
        struct sockaddr_in own;
        socklen_t len = sizeof own;
        MUST(connect(c, SA(where), sizeof where));
        MUST(getsockname(c, SA(own), &len));
        uint32_t hello[2] = {(uint32_t)(number * EACH + i), own.sin_port};
        send_all(c, hello, sizeof hello);
        char byte;
        if (read_all(c, &byte, 1) != 1)
            printf("no answer\n");
        close(c);
    }
    _exit(0);
}

static void server(int s) {
    for (;;) {
        struct pollfd p = {.fd = s, .events = POLLIN};
        MUST(poll(&p, 1, SOON));
        struct sockaddr_in peer;
        socklen_t len = sizeof peer;
        int d = accept4(s, SA(peer), &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (d < 0) {
            if (errno != EAGAIN)
                printf("accept4: %s\n", errno_name(errno));
            continue;
        }
        settle_bytes(d, 8);
        uint32_t hello[2] = {0};
        if (read_all(d, hello, sizeof hello) != sizeof hello || hello[0] >= TOTAL)
            printf("not what was sent\n");
        else if (hello[1] != peer.sin_port || len != sizeof peer)
            printf("another's address\n");
        else
            __sync_fetch_and_add(&counts[hello[0]], 1);
        send_all(d, "x", 1);
        close(d);
    }
}

int main(void) {
    counts = mmap(NULL, TOTAL * sizeof *counts, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int s = listener4();
    struct sockaddr_in where = v4(port_of(s));
    nonblocking(s);
    pid_t servers[SERVERS], clients[CLIENTS];
    for (int i = 0; i < SERVERS; i++)
        if ((servers[i] = (pid_t)MUST(fork())) == 0)
            server(s);
    for (int i = 0; i < CLIENTS; i++)
        if ((clients[i] = (pid_t)MUST(fork())) == 0)
            client(where, i);
    for (int i = 0; i < CLIENTS; i++)
        show_status("client", clients[i]);
    for (int i = 0; i < SERVERS; i++) {
        MUST(kill(servers[i], SIGKILL));
        show_status("server", servers[i]);
    }
    int once = 0;
    for (int i = 0; i < TOTAL; i++)
        once += counts[i] == 1;
    printf("%d of %d once\n", once, TOTAL);
    return 0;
}
