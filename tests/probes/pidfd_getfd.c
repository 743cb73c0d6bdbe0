// A parent takes copies of its child's sockets with pidfd_getfd; closing is counted over all copies.
#include "probe.h"

int main(void) {
    int c, d;
    struct gate ready = gate();
    connected_pair(&c, &d);
    int *number = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t child = fork();
    if (child == 0) {
        number[0] = listener4();
        number[1] = client4(number[0]);
        gate_open(ready);
        for (;;)
            pause();
    }
    gate_wait(ready);
    int pidfd = (int)MUST(syscall(SYS_pidfd_open, child, 0));
    int s = (int)MUST(syscall(SYS_pidfd_getfd, pidfd, number[0], 0));
    int e = (int)MUST(syscall(SYS_pidfd_getfd, pidfd, number[1], 0));
    show_names("taken listener", s);
    show_names("taken client", e);
    int f = TFD(accept(s, NULL, NULL));
    kill(child, SIGKILL);
    show_status("child", child);
    send_all(e, "outlives", 8);
    settle(f, POLLIN);
    show_read("server", f);
    int g = client4(s);
    TFD(accept(s, NULL, NULL));
    close(e);
    settle(f, POLLRDHUP);
    show_read("server", f);
    close(g);
    return 0;
}
