// The options of IPPROTO_TCP that are refused.
// gap: Refused
#include "sweep.h"

int main(void) {
    static const int names[] = {
        10, 14, 16, 17, 19, 20, 21, 22, 24, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 42, 43, 44, 45, 46, -1,
    };
    static const int changing[] = {TCP_TIMESTAMP, -1};
    struct sweep w = {IPPROTO_TCP, names, changing};
    sweep(&w, "new", tcp4);
    sweep(&w, "IPv6", tcp6);
    sweep(&w, "connected", sweep_connected);
    return 0;
}
