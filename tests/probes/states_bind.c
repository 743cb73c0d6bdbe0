// bind() and listen() in every state, and what the socket is afterwards.
// net: silent
#include "states.h"

static void names(int fd) {
    struct sockaddr_in a;
    socklen_t len = sizeof a;
    printf(", sockname %s", outcome(getsockname(fd, SA(a), &len)));
    printf(" %s", a.sin_port ? "port" : "no port");
    len = sizeof a;
    printf(", peername %s", outcome(getpeername(fd, SA(a), &len)));
}

static void do_bind(struct specimen *s, enum state state) {
    (void)state;
    struct sockaddr_in a = v4(0), six = v4(0);
    printf("bind %s", outcome(bind(s->fd, SA(a), sizeof a)));
    names(s->fd);
    printf(", again %s", outcome(bind(s->fd, SA(a), sizeof a)));
    six.sin_family = AF_INET6;
    printf(", IPv6 %s", outcome(bind(s->fd, SA(six), sizeof six)));
    printf(", EFAULT %s", outcome(bind(s->fd, (void *)8, sizeof six)));
}

static void do_listen(struct specimen *s, enum state state) {
    (void)state;
    int on = -1;
    socklen_t len = sizeof on;
    printf("listen %s", outcome(listen(s->fd, 5)));
    names(s->fd);
    getsockopt(s->fd, SOL_SOCKET, SO_ACCEPTCONN, &on, &len);
    printf(", listens %d, again %s", on, outcome(listen(s->fd, 0)));
}

int main(void) {
    table(do_bind);
    table(do_listen);
    return 0;
}
