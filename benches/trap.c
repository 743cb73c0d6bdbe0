/* The cost of a system call that quicwrap traps: prints, in nanoseconds, the median over rounds of the mean of a
 * round, for getsockname on a TCP socket (answered by quicwrap when wrapped) and on a Unix socket (trapped, and
 * left to the kernel). */
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>

enum { ROUNDS = 50, CALLS = 200 };

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e9 + t.tv_nsec;
}

static double median_cost(int fd)
{
    double rounds[ROUNDS];
    for (int round = 0; round < ROUNDS; round++) {
        double begin = now();
        for (int call = 0; call < CALLS; call++) {
            struct sockaddr_storage address;
            socklen_t length = sizeof address;
            if (getsockname(fd, (struct sockaddr *)&address, &length) != 0) {
                perror("getsockname");
                exit(1);
            }
        }
        rounds[round] = (now() - begin) / CALLS;
    }
    qsort(rounds, ROUNDS, sizeof *rounds, ascending);
    return rounds[ROUNDS / 2];
}

int main(void)
{
    int tcp = socket(AF_INET, SOCK_STREAM, 0);
    int foreign = socket(AF_UNIX, SOCK_STREAM, 0);
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (tcp < 0 || foreign < 0 || bind(tcp, (struct sockaddr *)&any, sizeof any) != 0) {
        perror("socket");
        return 1;
    }
    printf("%.0f %.0f\n", median_cost(tcp), median_cost(foreign));
    return 0;
}
