// Options of SOL_SOCKET that an AF_UNIX socket has and TCP has not, or has in another way.
// gap: SO_PEERCRED, SO_PEERPIDFD, SO_PASSCRED, SO_COOKIE
#include "sweep.h"

int main(void) {
    static const int names[] = {
        16, 17, 34, 55, 59, 72, 76, 77, 83, 84, -1,
    };
    static const int changing[] = {-1};
    struct sweep w = {SOL_SOCKET, names, changing};
    sweep(&w, "connected", sweep_connected);
    return 0;
}
