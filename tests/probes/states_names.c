// getsockname() and getpeername() in every state.
// net: silent
#include "states.h"

static void one(const char *name, int r, const struct sockaddr_in *a, socklen_t len) {
    char text[INET_ADDRSTRLEN];
    if (r < 0) {
        printf("%s %s ", name, errno_name(errno));
        return;
    }
    inet_ntop(AF_INET, &a->sin_addr, text, sizeof text);
    printf("%s %s:%s (%u) ", name, text, a->sin_port ? "port" : "0", len);
}

static void names(struct specimen *s, enum state state) {
    (void)state;
    struct sockaddr_in a;
    socklen_t len = sizeof a;
    one("sockname", getsockname(s->fd, SA(a), &len), &a, len);
    len = sizeof a;
    one("peername", getpeername(s->fd, SA(a), &len), &a, len);
    len = sizeof a;
    printf("EFAULT %s", outcome(getsockname(s->fd, (void *)8, &len)));
    printf(" %s", outcome(getpeername(s->fd, (void *)8, &len)));
    len = (socklen_t)-5;
    printf(", bad length %s", outcome(getsockname(s->fd, SA(a), &len)));
    printf(" %s", outcome(getpeername(s->fd, SA(a), &len)));
}

int main(void) {
    table(names);
    return 0;
}
