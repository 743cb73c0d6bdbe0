// The options of IPPROTO_IPV6 that are refused.
// gap: Refused
#include "sweep.h"

int main(void) {
    static const int names[] = {
        2, 3, 4, 5, 6, 8, 11, 17, 18, 19, 20, 21, 22, 29, 30, 31, 33, 49, 51, 53, 54, 55, 56, 57, 58, 59, 60, 62, 66,
        70, 72, 73, 74, 75, -1,
    };
    static const int changing[] = {-1};
    struct sweep w = {IPPROTO_IPV6, names, changing};
    sweep(&w, "new", tcp6);
    return 0;
}
