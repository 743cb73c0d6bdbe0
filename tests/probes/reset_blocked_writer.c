// A reset ends a write that is blocked, although the writer reads nothing meanwhile.
#include "probe.h"

enum { CHUNK = 65536 };

/* Sends until the peer takes no more for a while. */
static void fill(int fd) {
    static char chunk[CHUNK];
    for (int quiet = 0; quiet < 20;) {
        ssize_t n = send(fd, chunk, sizeof chunk, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n > 0)
            quiet = 0;
        else
            quiet++, poll(NULL, 0, 10);
    }
}

int main(void) {
    static char chunk[CHUNK];
    int c, d;
    connected_pair(&c, &d);
    fill(c);
    fill(d);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        close(c);
        ssize_t n = send(d, chunk, sizeof chunk, MSG_NOSIGNAL);
        /* Some of it may have found room. */
        if (n > 0)
            n = send(d, chunk, sizeof chunk, MSG_NOSIGNAL);
        printf("blocked send fails: %s\n", n < 0 && (errno == ECONNRESET || errno == EPIPE) ? "yes" : "no");
        _exit(0);
    }
    close(d);
    wait_blocked(child);
    /* With data unread: TCP sends RST. */
    close(c);
    show_status("writer", child);
    return 0;
}
