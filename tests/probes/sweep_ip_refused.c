// The options of IPPROTO_IP that are refused.
// gap: Refused
#include "sweep.h"

int main(void) {
    static const int names[] = {
        3, 4, 5, 6, 7, 8, 12, 13, 18, 19, 20, 21, 22, 23, 25, 26, 32, 33, 34, 49, 50, 51, 80, -1,
    };
    static const int changing[] = {-1};
    struct sweep w = {IPPROTO_IP, names, changing};
    sweep(&w, "new", tcp4);
    return 0;
}
