/* What the bench's small programs share. An error ends the program, with its cause on standard error. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static inline void fail(const char *what)
{
    perror(what);
    exit(1);
}

/* Nanoseconds. */
static inline double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e9 + t.tv_nsec;
}

static inline int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static inline double median(double *figures, int count)
{
    qsort(figures, count, sizeof *figures, ascending);
    return count % 2 ? figures[count / 2] : (figures[count / 2 - 1] + figures[count / 2]) / 2;
}

static inline double *room_for(int count)
{
    double *figures = calloc(count, sizeof *figures);
    if (!figures)
        fail("calloc");
    return figures;
}

static inline struct sockaddr_in address_of(char **arguments)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(arguments[1]))};
    if (inet_pton(AF_INET, arguments[0], &address.sin_addr) != 1) {
        fprintf(stderr, "not an IPv4 address: %s\n", arguments[0]);
        exit(1);
    }
    return address;
}

static inline int tcp_socket(void)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        fail("socket");
    return fd;
}

static inline void connect_to(int fd, const struct sockaddr_in *peer)
{
    if (connect(fd, (const struct sockaddr *)peer, sizeof *peer) != 0)
        fail("connect");
}

static inline void own_name(int fd)
{
    struct sockaddr_storage address;
    socklen_t length = sizeof address;
    if (getsockname(fd, (struct sockaddr *)&address, &length) != 0)
        fail("getsockname");
}

static inline void need_arguments(int count, int wanted, const char *usage)
{
    if (count != wanted + 1) {
        fprintf(stderr, "usage: %s\n", usage);
        exit(2);
    }
}
