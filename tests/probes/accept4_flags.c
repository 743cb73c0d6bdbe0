// accept4's flags.
#include "probe.h"

int main(void) {
    int s = listener4();
    int flags[] = {0, SOCK_NONBLOCK, SOCK_CLOEXEC, SOCK_NONBLOCK | SOCK_CLOEXEC};
    for (int i = 0; i < 4; i++) {
        int c = client4(s);
        int fd = TFD(accept4(s, NULL, NULL, flags[i]));
        printf("%d: nonblock %d cloexec %d\n", i, !!(fcntl(fd, F_GETFL) & O_NONBLOCK), !!(fcntl(fd, F_GETFD) & FD_CLOEXEC));
        close(c);
        close(fd);
    }
    int c = client4(s);
    T(accept4(s, NULL, NULL, 1));
    T(accept4(s, NULL, NULL, -1));
    TFD(accept4(s, NULL, NULL, 0));
    close(c);
    return 0;
}
