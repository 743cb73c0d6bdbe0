// One blocking write of 24 MB, one non-blocking write that takes a part.
#include "probe.h"

enum { SIZE = 24 << 20 };
static char block[SIZE];

int main(void) {
    int c, d, wrong = 0;
    for (int i = 0; i < SIZE; i++)
        block[i] = (char)(i / 777);
    connected_pair(&c, &d);
    pid_t child = fork();
    if (child == 0) {
        T(write(c, block, SIZE));
        close(c);
        _exit(0);
    }
    close(c);
    static char got[1 << 18];
    long done = 0;
    for (ssize_t n; (n = MUST(read(d, got, sizeof got))) > 0; done += n)
        wrong += memcmp(got, block + done, (size_t)n) != 0;
    printf("read %ld, wrong %d\n", done, wrong);
    show_status("writer", child);
    connected_pair(&c, &d);
    nonblocking(c);
    ssize_t n = write(c, block, SIZE);
    printf("a part: %d\n", n > 0 && n < SIZE);
    MUST(shutdown(c, SHUT_WR));
    for (done = 0; (n = MUST(read(d, got, sizeof got))) > 0; done += n)
        wrong += memcmp(got, block + done, (size_t)n) != 0;
    printf("wrong %d\n", wrong);
    return 0;
}
