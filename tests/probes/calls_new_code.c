// Code that the program makes itself, changes, and replaces at the same address; and another copy of the C library.
// flags: -ldl
#include "probe.h"
#include <dlfcn.h>

/* mov $number, %eax; syscall; ret */
static const unsigned char CODE[] = {0xb8, 51, 0, 0, 0, 0x0f, 0x05, 0xc3};

typedef long (*call)(int, void *, socklen_t *);

static void show(const char *name, call code, int fd) {
    struct sockaddr_in a = {0};
    for (int round = 0; round < 3; round++) {
        socklen_t length = sizeof a;
        long result = code(fd, &a, &length);
        printf("%s: %ld length %u family %d\n", name, result, length, a.sin_family);
    }
}

int main(void) {
    int fd = MUST(socket(AF_INET, SOCK_STREAM, 0));
    int all = PROT_READ | PROT_WRITE | PROT_EXEC, own = MAP_PRIVATE | MAP_ANONYMOUS;
    unsigned char *page = mmap(NULL, 4096, all, own, -1, 0);
    for (int offset = 0; offset < 200; offset += 40) {
        memcpy(page + offset, CODE, sizeof CODE);
        show("made", (call)(page + offset), fd);
    }
    /* Another call at the place of the first. */
    memcpy(page, CODE, sizeof CODE);
    page[1] = SYS_getpeername;
    show("changed", (call)page, fd);
    munmap(page, 4096);
    page = mmap(page, 4096, all, own | MAP_FIXED, -1, 0);
    memcpy(page, CODE, sizeof CODE);
    show("mapped anew", (call)page, fd);
    void *library = dlmopen(LM_ID_NEWLM, "libc.so.6", RTLD_NOW);
    int (*other)(int, struct sockaddr *, socklen_t *) = library ? dlsym(library, "getsockname") : NULL;
    for (int round = 0; other && round < 3; round++) {
        struct sockaddr_in a;
        socklen_t length = sizeof a;
        T(other(fd, SA(a), &length));
    }
    return 0;
}
