// sendfile from a file to a connection, with and without an offset.
#include "probe.h"
#include <sys/sendfile.h>

enum { SIZE = 3000000 };

int main(void) {
    int c, d, file = memfd_create("data", 0);
    static unsigned char data[SIZE], got[SIZE];
    for (int i = 0; i < SIZE; i++)
        data[i] = (unsigned char)(i * 7 + i / 1000);
    MUST(write(file, data, SIZE));
    connected_pair(&c, &d);
    pid_t child = fork();
    if (child == 0) {
        off_t offset = 0;
        while (offset < SIZE && sendfile(c, file, &offset, (size_t)(SIZE - offset)) > 0)
            ;
        printf("offset: %s, position: %ld\n", offset == SIZE ? "all" : "part", (long)lseek(file, 0, SEEK_CUR));
        MUST(lseek(file, 10, SEEK_SET));
        T(sendfile(c, file, NULL, 5));
        T(sendfile(c, -1, NULL, 5));
        T(sendfile(c, d, NULL, 5));
        shutdown(c, SHUT_WR);
        _exit(0);
    }
    int all = read_all(d, got, SIZE) == SIZE && !memcmp(data, got, SIZE);
    size_t more = read_all(d, got, 100);
    show_status("sender", child);
    printf("received: %s and %zu %d\n", all ? "all" : "part", more, !memcmp(got, data + 10, 5));
    return 0;
}
