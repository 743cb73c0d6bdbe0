/* trap: the cost of a system call that quicwrap traps. Prints, in microseconds, the median over rounds of the mean of
 * a round, for getsockname and getsockopt(SO_ERROR) on a TCP socket (answered by quicwrap when wrapped), and for
 * getsockname on a UDP socket (trapped, and left to the kernel). */
#include "bench.h"

enum { ROUNDS = 50, CALLS = 200 };

static void own_error(int fd)
{
    int error;
    socklen_t length = sizeof error;
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length) != 0)
        fail("getsockopt");
}

static double median_cost(void (*measured)(int), int fd)
{
    double rounds[ROUNDS];
    for (int round = 0; round < ROUNDS; round++) {
        double begin = now();
        for (int call = 0; call < CALLS; call++)
            measured(fd);
        rounds[round] = (now() - begin) / CALLS;
    }
    return median(rounds, ROUNDS) / 1e3;
}

int main(void)
{
    int tcp = tcp_socket();
    int foreign = socket(AF_INET, SOCK_DGRAM, 0);
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (foreign < 0 || bind(tcp, (struct sockaddr *)&any, sizeof any) != 0)
        fail("bind");
    printf("%.3f %.3f %.3f\n", median_cost(own_name, tcp), median_cost(own_error, tcp), median_cost(own_name, foreign));
    return 0;
}
