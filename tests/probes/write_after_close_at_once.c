// A writer that never pauses finds out that its peer has closed, however fast its bytes are dropped.
#include "probe.h"
#include <sys/uio.h>

enum { PIECE = 1 << 20, PIECES = 1 << 10 };
static char bytes[PIECE];
static struct iovec gigabyte[PIECES];

int main(void) {
    signal(SIGPIPE, SIG_IGN);
    for (int i = 0; i < PIECES; i++)
        gigabyte[i] = (struct iovec){bytes, PIECE};
    for (int round = 0; round < 50; round++) {
        struct timespec pause = {.tv_nsec = 20000 * (round % 10)};
        int c, d;
        connected_pair(&c, &d);
        close(d);
        nanosleep(&pause, NULL);
        ssize_t written = writev(c, gigabyte, PIECES);
        printf("%s\n", written < (ssize_t)PIECE * PIECES ? "found out" : "a gigabyte was taken");
        close(c);
    }
    return 0;
}
