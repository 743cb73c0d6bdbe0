/* The work that is counted: the programs that benches/count/run.py wraps.
 *
 *     work calls OWN OTHER       so many getsockname on a TCP socket, and on a Unix socket
 *     work serve CONNECTIONS     prints its port; reads each connection to its end, and answers each line with a byte
 *     work connect PORT CONNECTIONS MEGABYTES    one connection after another: that much, a line, the answer, close
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CHUNK = 128 << 10, MEGABYTE = 1 << 20 };

static char buffer[CHUNK];

static long must(long result, const char *what)
{
    if (result < 0) {
        perror(what);
        exit(1);
    }
    return result;
}

static int tcp_socket(void)
{
    return must(socket(AF_INET, SOCK_STREAM, 0), "socket");
}

static struct sockaddr_in loopback(int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

static void bind_any(int fd)
{
    struct sockaddr_in any = loopback(0);
    must(bind(fd, (struct sockaddr *)&any, sizeof any), "bind");
}

static int own_port(int fd)
{
    struct sockaddr_in own;
    socklen_t length = sizeof own;
    must(getsockname(fd, (struct sockaddr *)&own, &length), "getsockname");
    return ntohs(own.sin_port);
}

static void ask(int fd, long times)
{
    while (times-- > 0) {
        struct sockaddr_storage address;
        socklen_t length = sizeof address;
        must(getsockname(fd, (struct sockaddr *)&address, &length), "getsockname");
    }
}

static void calls(long own, long other)
{
    int tcp = tcp_socket();
    bind_any(tcp);
    ask(tcp, own);
    ask(must(socket(AF_UNIX, SOCK_STREAM, 0), "socket"), other);
}

static void answer_lines(int fd)
{
    long count;
    while ((count = must(read(fd, buffer, CHUNK), "read")) > 0) {
        if (buffer[count - 1] == '\n')
            must(write(fd, "x", 1), "write");
    }
}

static void serve(long connections)
{
    int listener = tcp_socket();
    bind_any(listener);
    must(listen(listener, 16), "listen");
    printf("%d\n", own_port(listener));
    fflush(stdout);
    while (connections-- > 0) {
        int fd = must(accept(listener, NULL, NULL), "accept");
        answer_lines(fd);
        close(fd);
    }
}

static void connect_to(int port, long connections, long megabytes)
{
    struct sockaddr_in peer = loopback(port);
    while (connections-- > 0) {
        int fd = tcp_socket();
        must(connect(fd, (struct sockaddr *)&peer, sizeof peer), "connect");
        for (long left = megabytes * MEGABYTE; left > 0;)
            left -= must(write(fd, buffer, left < CHUNK ? left : CHUNK), "write");
        must(write(fd, "\n", 1), "write");
        if (must(read(fd, buffer, 1), "read") != 1) {
            fprintf(stderr, "work: the server has sent no answer\n");
            exit(1);
        }
        close(fd);
    }
}

int main(int count, char **arguments)
{
    const char *what = count > 1 ? arguments[1] : "";
    long number[3] = {0};
    for (int index = 2; index < count && index < 5; index++)
        number[index - 2] = atol(arguments[index]);
    if (strcmp(what, "calls") == 0)
        calls(number[0], number[1]);
    else if (strcmp(what, "serve") == 0)
        serve(number[0]);
    else if (strcmp(what, "connect") == 0)
        connect_to((int)number[0], number[1], number[2]);
    else {
        fprintf(stderr, "work: calls OWN OTHER | serve CONNECTIONS | connect PORT CONNECTIONS MEGABYTES\n");
        return 2;
    }
    return 0;
}
