// The options of IPPROTO_TCP that are stored, and some that do not exist, new, connected and listening.
#include "sweep.h"

int main(void) {
    static const int names[] = {
        1, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 18, 23, 25, 15, 38, 39, 47, 48, 60, 100, -1,
    };
    static const int changing[] = {TCP_INFO, TCP_QUICKACK, TCP_CONGESTION, -1};
    struct sweep w = {IPPROTO_TCP, names, changing};
    sweep(&w, "new", tcp4);
    sweep(&w, "IPv6", tcp6);
    sweep(&w, "connected", sweep_connected);
    sweep(&w, "listening", listener4);
    return 0;
}
