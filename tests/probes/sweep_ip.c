// The options of IPPROTO_IP that are stored, and some that do not exist.
#include "sweep.h"

int main(void) {
    static const int names[] = {
        1, 2, 10, 11, 15, 24, 0, 61, 70, 100, -1,
    };
    static const int changing[] = {-1};
    struct sweep w = {IPPROTO_IP, names, changing};
    sweep(&w, "new", tcp4);
    sweep(&w, "connected", sweep_connected);
    sweep(&w, "IPv6", tcp6);
    return 0;
}
