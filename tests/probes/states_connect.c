// connect() in every state: to a listener, to a closed port, and again; non-blocking where it would wait.
// net: silent
#include "states.h"

static struct sockaddr_in served, closed;

/* On loopback an answer may be there before a non-blocking connect returns, or not. */
static const char *attempt(int fd, const void *a, socklen_t len) {
    long r = connect(fd, a, len);
    return outcome(r);
}

static void to_listener(struct specimen *s, enum state state) {
    if (state == CONNECTING)
        nonblocking(s->fd);
    printf("%s", attempt(s->fd, &served, sizeof served));
    printf(", again %s", attempt(s->fd, &served, sizeof served));
    if (state != CONNECTING)
        printf(", %s", poll_names(poll_now(s->fd, 0)));
}

static void to_closed(struct specimen *s, enum state state) {
    if (state == CONNECTING)
        nonblocking(s->fd);
    printf("%s", attempt(s->fd, &closed, sizeof closed));
    printf(", error %s", errno_name(so_error(s->fd)));
    printf(", again %s", attempt(s->fd, &closed, sizeof closed));
}

static void bad(struct specimen *s, enum state state) {
    struct sockaddr_in a = served;
    struct sockaddr_in6 six = v6(1);
    if (state == CONNECTING)
        nonblocking(s->fd);
    printf("short %s", attempt(s->fd, &a, 5));
    printf(", EFAULT %s", attempt(s->fd, (void *)8, sizeof a));
    printf(", IPv6 %s", attempt(s->fd, &six, sizeof six));
}

int main(void) {
    int s = listener4(), holder;
    served = v4(port_of(s));
    closed = v4(closed_port(&holder));
    printf("-- to a listener\n");
    table(to_listener);
    printf("-- to a closed port\n");
    table(to_closed);
    printf("-- malformed\n");
    table(bad);
    return 0;
}
