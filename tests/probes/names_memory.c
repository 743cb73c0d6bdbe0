// Memory that a name cannot be written to: read-only lengths, addresses that end where memory does. What a call that
// fails leaves in the length differs from kernel to kernel. All rounds are to be alike.
#include "probe.h"

static char *pages;
static long page;

static void one(const char *what, int fd, void *address, socklen_t *length) {
    int (*calls[])(int, struct sockaddr *, socklen_t *) = {getsockname, getpeername};
    printf("%s:", what);
    for (int i = 0; i < 2; i++) {
        errno = 0;
        int r = calls[i](fd, address, length);
        printf(" %d %s", r, r ? errno_name(errno) : "");
        if (r == 0)
            printf("length %u", *length);
    }
    puts("");
}

static void with_length(const char *what, int fd, void *address, socklen_t given) {
    printf("%u, ", given);
    one(what, fd, address, &given);
}

static void all(int fd, int bytes) {
    struct sockaddr_storage room;
    char *end = pages + page, *read_only = pages + 2 * page;
    socklen_t given[] = {(socklen_t)bytes, 36, 64, sizeof room, 4000};
    for (size_t i = 0; i < sizeof given / sizeof *given; i++) {
        with_length("all well", fd, &room, given[i]);
        with_length("just fits", fd, end - bytes, given[i]);
        with_length("a byte too far", fd, end - bytes + 1, given[i]);
        with_length("one byte is there", fd, end - 1, given[i]);
        with_length("read-only", fd, read_only, given[i]);
        with_length("unmapped", fd, end, given[i]);
        with_length("NULL", fd, NULL, given[i]);
    }
    one("read-only length", fd, &room, (socklen_t *)(read_only + 64));
    one("unaligned length", fd, &room, (socklen_t *)(pages + 1));
    one("length at the end", fd, &room, (socklen_t *)(end - 4));
    one("length across the end", fd, &room, (socklen_t *)(end - 2));
}

int main(void) {
    page = sysconf(_SC_PAGESIZE);
    pages = mmap(NULL, (size_t)(3 * page), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED)
        return 99;
    socklen_t length = 128;
    memcpy(pages + 1, &length, sizeof length);
    memcpy(pages + page - 4, &length, sizeof length);
    memcpy(pages + 2 * page + 64, &length, sizeof length);
    MUST(mprotect(pages + page, (size_t)page, PROT_NONE));
    MUST(mprotect(pages + 2 * page, (size_t)page, PROT_READ));
    int c, d;
    connected_pair(&c, &d);
    int s = tcp6(), e = tcp6();
    struct sockaddr_in6 a = v6(0);
    MUST(bind(s, SA(a), sizeof a));
    MUST(listen(s, 5));
    a = v6(port_of(s));
    MUST(connect(e, SA(a), sizeof a));
    for (int round = 0; round < 3; round++) {
        all(c, (int)sizeof(struct sockaddr_in));
        all(e, (int)sizeof(struct sockaddr_in6));
    }
    return 0;
}
