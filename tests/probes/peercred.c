// Options of AF_UNIX that TCP has not.
// gap: SO_PEERCRED, SO_PEERPIDFD, SO_PASSCRED, SO_COOKIE
#include "probe.h"

int main(void) {
    int c, d, on = 1;
    struct { int pid, uid, gid; } cred = {-1, -1, -1};
    socklen_t len = sizeof cred;
    connected_pair(&c, &d);
    T(getsockopt(c, SOL_SOCKET, SO_PEERCRED, &cred, &len));
    printf("pid %s\n", cred.pid == 0 ? "none" : "some");
    T(setsockopt(c, SOL_SOCKET, SO_PASSCRED, &on, sizeof on));
    return 0;
}
