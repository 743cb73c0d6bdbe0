// A port whose listener was closed, while a connection that it had accepted is open: bound at another address, or the
// same, with SO_REUSEADDR and without. The connection goes on, and who connects meets the new listener.
#include "probe.h"

static struct sockaddr_in at(const char *ip, uint16_t port) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
    MUST(inet_pton(AF_INET, ip, &a.sin_addr));
    return a;
}

static int bound(struct sockaddr_in a, int reuse) {
    int s = tcp4();
    MUST(setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &reuse, sizeof reuse));
    errno = 0;
    int r = bind(s, SA(a), sizeof a);
    printf("bind, SO_REUSEADDR %d: %d %s\n", reuse, r, r ? errno_name(errno) : "");
    return s;
}

static void echo(const char *what, int c, int d) {
    char text[16] = "";
    MUST(send(c, what, strlen(what), 0));
    MUST(recv(d, text, sizeof text - 1, 0));
    MUST(send(d, text, strlen(text), 0));
    memset(text, 0, sizeof text);
    MUST(recv(c, text, sizeof text - 1, 0));
    printf("%s\n", text);
}

static int connected(struct sockaddr_in a) {
    int c = tcp4();
    T(connect(c, SA(a), sizeof a));
    return c;
}

static void again(const char *first, const char *second, const char *called) {
    printf("-- %s, then %s, called %s\n", first, second, called);
    struct sockaddr_in a = at(first, 0);
    int s = bound(a, 1);
    MUST(listen(s, 5));
    uint16_t port = port_of(s);
    a = at(called, port);
    int c = connected(a), d = (int)MUST(accept(s, NULL, NULL));
    echo("first", c, d);
    close(s);
    close(bound(at(second, port), 0));
    s = bound(at(second, port), 1);
    T(listen(s, 5));
    int e = connected(a), f = (int)MUST(accept(s, NULL, NULL));
    echo("second", e, f);
    echo("first", c, d);
    show_names("first", d);
    close(s);
    s = bound(at(first, port), 1);
    T(listen(s, 5));
    int g = connected(a), h = (int)MUST(accept(s, NULL, NULL));
    echo("third", g, h);
    echo("second", e, f);
    echo("first", d, c);
    T(shutdown(c, SHUT_WR));
    char byte;
    T(recv(d, &byte, 1, 0));
    close(d);
    T(recv(c, &byte, 1, 0));
    echo("third", g, h);
    for (int fd = s; fd <= h; fd++)
        close(fd);
}

int main(void) {
    again("127.0.0.1", "0.0.0.0", "127.0.0.1");
    again("0.0.0.0", "127.0.0.1", "127.0.0.1");
    again("127.0.0.1", "127.0.0.1", "127.0.0.1");
    again("0.0.0.0", "127.0.0.2", "127.0.0.2");
    return 0;
}
