/* connect ADDRESS PORT COUNT: prints, in microseconds, the first connect() of the process, the median of COUNT more to
 * the same peer, and the median of a getsockname() behind each. */
#include "bench.h"

static double timed_connect(int fd, const struct sockaddr_in *peer)
{
    double begin = now();
    connect_to(fd, peer);
    return now() - begin;
}

static double timed_name(int fd)
{
    double begin = now();
    own_name(fd);
    return now() - begin;
}

int main(int argc, char **argv)
{
    need_arguments(argc, 3, "connect ADDRESS PORT COUNT");
    struct sockaddr_in peer = address_of(argv + 1);
    int count = atoi(argv[3]);
    double *connects = room_for(count + 1), *names = room_for(count + 1);
    double first = 0;
    for (int index = 0; index <= count; index++) {
        int fd = tcp_socket();
        connects[index] = timed_connect(fd, &peer);
        names[index] = timed_name(fd);
        close(fd);
        if (index == 0)
            first = connects[0];
    }
    if (count == 0)
        printf("%.2f\n", first / 1e3);
    else
        printf("%.2f %.2f %.2f\n", first / 1e3, median(connects + 1, count) / 1e3, median(names + 1, count) / 1e3);
    return 0;
}
