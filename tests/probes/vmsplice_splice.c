// vmsplice, tee and splice: memory through a pipe into a connection, a proxy that never copies, its end.
#include "probe.h"

enum { SIZE = 3 << 20 };

static void proxy(int from, int to) {
    int p[2], side[2];
    MUST(pipe(p));
    MUST(pipe(side));
    long passed = 0, copied = 0;
    for (;;) {
        ssize_t n = splice(from, NULL, p[1], NULL, 65536, SPLICE_F_MOVE | SPLICE_F_MORE);
        if (n <= 0)
            break;
        if (passed == 0) {
            copied = tee(p[0], side[1], (size_t)n, 0);
            copied = copied == n;
        }
        for (ssize_t left = n; left > 0;)
            left -= MUST(splice(p[0], NULL, to, NULL, (size_t)left, SPLICE_F_MOVE));
        passed += n;
    }
    printf("passed %ld, first copied %ld\n", passed, copied);
    MUST(shutdown(to, SHUT_WR));
}

int main(void) {
    int a, b, c, d, p[2], wrong = 0;
    static unsigned char data[SIZE], got[SIZE];
    for (int i = 0; i < SIZE; i++)
        data[i] = (unsigned char)(i * 13 + i / 999);
    connected_pair(&a, &b);
    connected_pair(&c, &d);
    MUST(pipe(p));
    pid_t writer = fork();
    if (writer == 0) {
        for (long done = 0; done < SIZE;) {
            struct iovec v = {data + done, (size_t)(SIZE - done)};
            ssize_t n = MUST(vmsplice(p[1], &v, 1, 0));
            for (ssize_t left = n; left > 0;)
                left -= MUST(splice(p[0], NULL, a, NULL, (size_t)left, 0));
            done += n;
        }
        MUST(shutdown(a, SHUT_WR));
        _exit(0);
    }
    pid_t middle = fork();
    if (middle == 0) {
        proxy(b, c);
        _exit(0);
    }
    size_t n = read_all(d, got, SIZE);
    for (int i = 0; i < SIZE; i++)
        wrong += got[i] != data[i];
    printf("received %zu, wrong %d, then %zu\n", n, wrong, read_all(d, got, 1));
    show_status("writer", writer);
    show_status("proxy", middle);
    T(splice(d, NULL, d, NULL, 1, 0));
    T(tee(d, p[1], 1, 0));
    loff_t offset = 0;
    T(splice(d, &offset, p[1], NULL, 1, 0));
    return 0;
}
