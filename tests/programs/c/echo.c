/* echo server PORT: serves one client. echo client PORT: sends its input, prints what comes back. */
#include <arpa/inet.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void check(int result, const char *what) {
    if (result < 0) {
        perror(what);
        exit(1);
    }
}

static void write_all(int fd, const char *data, ssize_t len) {
    while (len > 0) {
        ssize_t n = write(fd, data, (size_t)len);
        check((int)n, "write");
        data += n;
        len -= n;
    }
}

static void copy(int from, int to) {
    static char buffer[65536];
    ssize_t n;
    while ((n = read(from, buffer, sizeof buffer)) > 0)
        write_all(to, buffer, n);
    check((int)n, "read");
}

static void serve(int s, const struct sockaddr_in *address) {
    check(bind(s, (const struct sockaddr *)address, sizeof *address), "bind");
    check(listen(s, 5), "listen");
    puts("listening");
    fflush(stdout);
    int c = accept(s, NULL, NULL);
    check(c, "accept");
    copy(c, c);
}

/* Sends standard input and prints the echo, both at once: either alone would fill up the buffers. */
static void talk(int s, const struct sockaddr_in *address) {
    static char buffer[65536];
    check(connect(s, (const struct sockaddr *)address, sizeof *address), "connect");
    pid_t sender = fork();
    check(sender, "fork");
    if (sender == 0) {
        copy(0, s);
        check(shutdown(s, SHUT_WR), "shutdown");
        exit(0);
    }
    ssize_t n;
    while ((n = read(s, buffer, sizeof buffer)) > 0)
        write_all(1, buffer, n);
    check((int)n, "read");
}

int main(int argc, char **argv) {
    struct sockaddr_in address = {.sin_family = AF_INET};
    int s = socket(AF_INET, SOCK_STREAM, 0);
    check(s, "socket");
    if (argc != 3)
        return 2;
    address.sin_port = htons((unsigned short)atoi(argv[2]));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (!strcmp(argv[1], "server"))
        serve(s, &address);
    else
        talk(s, &address);
    return 0;
}
