// The options of IPPROTO_IPV6 that are stored, and some that do not exist.
#include "sweep.h"

int main(void) {
    static const int names[] = {
        16, 23, 25, 26, 67, 0, 7, 36, 52, 63, 100, -1,
    };
    static const int changing[] = {-1};
    struct sweep w = {IPPROTO_IPV6, names, changing};
    sweep(&w, "new", tcp6);
    sweep(&w, "IPv4", tcp4);
    return 0;
}
