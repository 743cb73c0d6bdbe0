/* send ADDRESS PORT BYTES: sends so many bytes and waits until the peer says that it has them all. Prints the seconds
 * between, without the connect(). */
#include "bench.h"

int main(int argc, char **argv)
{
    static char content[128 << 10];
    need_arguments(argc, 3, "send ADDRESS PORT BYTES");
    struct sockaddr_in peer = address_of(argv + 1);
    int fd = tcp_socket();
    connect_to(fd, &peer);
    double begin = now();
    for (long long left = atoll(argv[3]); left > 0;) {
        ssize_t count = write(fd, content, left < (long long)sizeof content ? (size_t)left : sizeof content);
        if (count <= 0)
            fail("write");
        left -= count;
    }
    if (shutdown(fd, SHUT_WR) != 0)
        fail("shutdown");
    char done;
    if (read(fd, &done, 1) != 1)
        fail("read");
    printf("%.6f\n", (now() - begin) / 1e9);
    return 0;
}
