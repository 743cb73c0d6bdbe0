// Short and long buffers for IPv6 addresses.
#include "probe.h"

int main(void) {
    int s = tcp6(), c = tcp6();
    struct sockaddr_in6 a = v6(0);
    MUST(bind(s, SA(a), sizeof a));
    MUST(listen(s, 5));
    a = v6(port_of(s));
    MUST(connect(c, SA(a), sizeof a));
    int d = (int)MUST(accept(s, NULL, NULL));
    socklen_t lengths[] = {0, 2, 8, 16, 24, 27, 28, 29, 128, (socklen_t)-1};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        unsigned char raw[160];
        int (*calls[])(int, struct sockaddr *, socklen_t *) = {getsockname, getpeername};
        for (int j = 0; j < 2; j++) {
            socklen_t len = lengths[i];
            size_t touched = 0;
            memset(raw, 0xaa, sizeof raw);
            errno = 0;
            int r = calls[j](d, (struct sockaddr *)raw, &len);
            for (size_t k = 0; k < sizeof raw; k++)
                if (raw[k] != 0xaa)
                    touched = k + 1;
            printf("%d with %d: %d %s, length %u, not beyond %d\n", j, (int)lengths[i], r, r ? errno_name(errno) : "", len,
                   r < 0 || touched <= lengths[i]);
        }
    }
    return 0;
}
