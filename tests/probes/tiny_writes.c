// One-byte writes by the thousand with TCP_NODELAY, nobody reading at first: none lost, none refused.
#include "probe.h"

enum { COUNT = 20000 };

int main(void) {
    int c, d, on = 1, wrong = 0;
    connected_pair(&c, &d);
    T(setsockopt(c, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on));
    pid_t child = fork();
    if (child == 0) {
        for (int i = 0; i < COUNT; i++) {
            unsigned char byte = (unsigned char)(i * 31);
            send_all(c, &byte, 1);
        }
        _exit(0);
    }
    close(c);
    /* TCP's buffers hold them all: the writer comes to its end unread. */
    show_status("writer", child);
    static unsigned char got[COUNT + 1];
    size_t n = read_all(d, got, sizeof got);
    for (int i = 0; i < COUNT; i++)
        wrong += got[i] != (unsigned char)(i * 31);
    printf("read %zu, wrong %d\n", n, wrong);
    return 0;
}
