// The address length is a value and a result: short buffers are cut, long ones left alone, bad ones refused.
#include "probe.h"

static void cut(const char *name, int fd, int (*call)(int, struct sockaddr *, socklen_t *), socklen_t len) {
    unsigned char raw[64];
    socklen_t given = len;
    memset(raw, 0xaa, sizeof raw);
    errno = 0;
    int r = call(fd, (struct sockaddr *)raw, &len);
    size_t touched = 0;
    for (size_t i = 0; i < sizeof raw; i++)
        if (raw[i] != 0xaa)
            touched = i + 1;
    /* Where the last bytes are those of the port or zeros their number is certain. */
    printf("%s with %d: %d %s, length %u, beyond the buffer untouched: %d, family %d\n", name, (int)given, r,
           r ? errno_name(errno) : "", len, r || touched <= given, given >= 2 && !r ? raw[0] : -1);
}

static int my_accept(int fd, struct sockaddr *a, socklen_t *len) {
    int client = client4(fd);
    int got = accept(fd, a, len);
    int e = errno;
    close(client);
    if (got >= 0)
        close(got);
    errno = e;
    return got < 0 ? -1 : 0;
}

int main(void) {
    int c, d;
    connected_pair(&c, &d);
    socklen_t lengths[] = {0, 1, 2, 4, 8, 15, 16, 28, 64, (socklen_t)-1, 0x80000000u};
    int s = listener4();
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        cut("getsockname", c, getsockname, lengths[i]);
        cut("getpeername", d, getpeername, lengths[i]);
        cut("accept", s, my_accept, lengths[i]);
    }
    struct sockaddr_in a;
    socklen_t len = sizeof a;
    T(getsockname(c, NULL, &len));
    T(getsockname(c, SA(a), NULL));
    T(getpeername(c, (void *)8, &len));
    T(getpeername(c, SA(a), (void *)8));
    len = 0;
    T(getsockname(c, NULL, &len));
    printf("length %u\n", len);
    return 0;
}
