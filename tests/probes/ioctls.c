// The requests of ioctl(2), FIONREAD, FIONBIO, FIOASYNC, SIOCATMARK, terminals' requests, unknown ones.
#include "probe.h"
#include <linux/sockios.h>
#include <termios.h>

int main(void) {
    int c, d, n = -1, on = 1, off = 0;
    struct termios t;
    connected_pair(&c, &d);
    T(ioctl(d, FIONREAD, &n));
    printf("%d\n", n);
    send_all(c, "sixbyt", 6);
    for (int i = 0; i < SOON && n != 6; i++) {
        poll(NULL, 0, 1);
        ioctl(d, FIONREAD, &n);
    }
    printf("%d\n", n);
    T(ioctl(d, SIOCINQ, &n));
    char text[4];
    T(read(d, text, 4));
    T(ioctl(d, FIONREAD, &n));
    printf("%d\n", n);
    T(ioctl(d, FIONBIO, &on));
    printf("nonblock %d\n", !!(fcntl(d, F_GETFL) & O_NONBLOCK));
    T(ioctl(d, FIONBIO, &off));
    printf("nonblock %d\n", !!(fcntl(d, F_GETFL) & O_NONBLOCK));
    T(ioctl(d, FIOCLEX));
    printf("cloexec %d\n", fcntl(d, F_GETFD));
    T(ioctl(d, FIONCLEX));
    T(ioctl(d, FIOSETOWN, &(int){getpid()}));
    T(ioctl(d, FIOGETOWN, &n));
    printf("owner %d\n", n == getpid());
    T(ioctl(d, TCGETS, &t));
    T(ioctl(d, TIOCGWINSZ, text));
    printf("tty %d\n", isatty(d));
    T(ioctl(d, 0x12345678, text));
    T(shutdown(c, SHUT_WR));
    settle(d, POLLRDHUP);
    T(ioctl(d, FIONREAD, &n));
    printf("%d\n", n);
    return 0;
}
