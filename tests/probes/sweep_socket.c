// The options of SOL_SOCKET, those that do not exist among them, new, connected and listening.
#include "sweep.h"

int main(void) {
    static const int names[] = {
        0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 19, 20, 21, 22, 23, 24, 26, 27, 29, 30, 31, 35, 37, 38,
        39, 40, 41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51, 52, 53, 54, 56, 58, 61, 62, 63, 64, 65, 66, 67, 68, 69,
        70, 71, 73, 75, 78, 79, 81, 82, 85, 86, 87, 88, 89, 90, -1,
    };
    static const int changing[] = {SO_INCOMING_CPU, SO_SNDBUF, SO_RCVBUF, -1};
    struct sweep w = {SOL_SOCKET, names, changing};
    sweep(&w, "new", tcp4);
    sweep(&w, "IPv6", tcp6);
    sweep(&w, "connected", sweep_connected);
    sweep(&w, "listening", listener4);
    return 0;
}
