// All data comes before the end, whatever its size; and before a reset, if it had arrived.
#include "probe.h"

int main(void) {
    static char block[300000], got[300001];
    int sizes[] = {1, 100, 1460, 65536, 100000, 300000}, s = listener4();
    struct linger hard = {.l_onoff = 1};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (int how = 0; how < 3; how++) {
            int c = client4(s), d = (int)MUST(accept(s, NULL, NULL));
            pid_t child = fork();
            if (child == 0) {
                send_all(c, block, (size_t)sizes[i]);
                if (how == 1)
                    shutdown(c, SHUT_WR);
                if (how == 2)
                    shutdown(c, SHUT_RDWR);
                _exit(0);
            }
            close(c);
            size_t n = read_all(d, got, sizeof got);
            printf("%d bytes, end %d: %d\n", sizes[i], how, n == (size_t)sizes[i]);
            waitpid(child, NULL, 0);
            close(d);
        }
    int c = client4(s), d = (int)MUST(accept(s, NULL, NULL));
    send_all(c, "before", 6);
    settle(d, POLLIN);
    MUST(setsockopt(c, SOL_SOCKET, SO_LINGER, &hard, sizeof hard));
    T(close(c));
    settle(d, POLLERR | POLLHUP);
    show_read("reset", d);
    show_read("reset", d);
    show_read("reset", d);
    return 0;
}
