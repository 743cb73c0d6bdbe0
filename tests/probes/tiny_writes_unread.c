// Sixty thousand one-byte writes go through although nobody reads.
#include "probe.h"

int main(void) {
    int c, d, sent = 0;
    connected_pair(&c, &d);
    for (int i = 0; i < 60000 && write(c, "x", 1) == 1; i++)
        sent++;
    printf("sent %d\n", sent);
    close(c);
    static char all[65536];
    printf("arrived %zu\n", read_all(d, all, sizeof all));
    return 0;
}
