/* ping ADDRESS PORT COUNT: round trips of an inline PING with a redis server, one after another on one connection.
 * Prints their median in microseconds. */
#include "bench.h"

enum { WARM_UP = 500 };
static const char PING[] = "PING\r\n", PONG[] = "+PONG\r\n";

static void round_trip(int fd)
{
    char answer[sizeof PONG - 1];
    size_t got = 0;
    if (write(fd, PING, sizeof PING - 1) != sizeof PING - 1)
        fail("write");
    while (got < sizeof answer) {
        ssize_t count = read(fd, answer + got, sizeof answer - got);
        if (count <= 0)
            fail("read");
        got += count;
    }
    if (memcmp(answer, PONG, sizeof answer) != 0) {
        fprintf(stderr, "not an answer to PING: %.*s\n", (int)sizeof answer, answer);
        exit(1);
    }
}

int main(int argc, char **argv)
{
    need_arguments(argc, 3, "ping ADDRESS PORT COUNT");
    struct sockaddr_in peer = address_of(argv + 1);
    int count = atoi(argv[3]), fd = tcp_socket(), on = 1;
    double *times = room_for(count);
    connect_to(fd, &peer);
    if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0)
        fail("TCP_NODELAY");
    for (int index = 0; index < WARM_UP; index++)
        round_trip(fd);
    for (int index = 0; index < count; index++) {
        double begin = now();
        round_trip(fd);
        times[index] = now() - begin;
    }
    printf("%.2f\n", median(times, count) / 1e3);
    return 0;
}
