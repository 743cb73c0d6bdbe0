// Where names and values of options lie: on the stack, at its very end and across it, at the ends of pages, in memory that
// cannot be written or is not there; with lengths of all kinds, and what lies behind. All rounds are to be alike.
// (names_memory.c: names elsewhere than on the stack.)
#include "probe.h"
#include <ucontext.h>

enum { PAGE = 4096, STACK = 16 * PAGE };

static const int lengths[] = {0, 1, 2, 3, 4, 5, 8, 15, 16, 17, 20, 27, 28, 29, 64, 128, -1, -2147483647 - 1};
static int v4_socket, v6_socket;

/* A name without its port, which differs from run to run, and what is behind it. */
static void show(const char *call, long result, const unsigned char *bytes, socklen_t length) {
    printf("%s = %ld %s", call, result, result ? errno_name(errno) : "");
    if (result == 0)
        printf(", length %u:", length);
    for (int i = 0; result == 0 && i < 32; i++)
        printf(" %d", i == 2 || i == 3 ? -1 : bytes[i]);
    printf("\n");
}

static void get_at(int fd, int name, void *at, socklen_t *length) {
    errno = 0;
    int r = getsockopt(fd, IPPROTO_TCP, name, at, length);
    printf("get %d: %s", name, errno_name(errno));
    if (r == 0)
        printf(" length %u", *length);
    printf("\n");
}

static void set_at(int fd, int name, void *at, socklen_t length) {
    errno = 0;
    int r = setsockopt(fd, IPPROTO_TCP, name, at, length);
    printf("set %d: %d %s\n", name, r, errno_name(errno));
}

static void all_lengths(int fd) {
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        unsigned char bytes[40];
        socklen_t length = (socklen_t)lengths[i];
        printf("given %d\n", lengths[i]);
        memset(bytes, 0xee, sizeof bytes);
        errno = 0;
        int r = getsockname(fd, (struct sockaddr *)bytes, &length);
        show("getsockname", r, bytes, length);
        length = (socklen_t)lengths[i];
        memset(bytes, 0xee, sizeof bytes);
        errno = 0;
        r = getpeername(fd, (struct sockaddr *)bytes, &length);
        show("getpeername", r, bytes, length);
        length = (socklen_t)lengths[i];
        memset(bytes, 0xee, sizeof bytes);
        r = getsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, bytes, &length);
        printf("getsockopt: %d, length %d, %d %d %d %d %d\n", r, (int)length, bytes[0], bytes[1], bytes[2], bytes[3], bytes[4]);
        int value = 70 + (int)i;
        T(setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &value, (socklen_t)lengths[i]));
        T(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &value, (socklen_t)lengths[i]));
    }
}

/* At the end of a page behind which there is none, and in one that can only be read. */
static void edges(int fd) {
    static const int names[] = {TCP_NODELAY, TCP_CORK, TCP_KEEPIDLE, TCP_KEEPCNT, TCP_USER_TIMEOUT};
    unsigned char *page = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    unsigned char *end = page + PAGE;
    if (page == MAP_FAILED)
        exit(99);
    for (int access = 0; access < 2; access++) {
        MUST(mprotect(end, PAGE, access ? PROT_READ : PROT_NONE));
        for (int back = 8; back >= -8; back -= 2) {
            printf("%d before the end\n", back);
            for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
                socklen_t length = 4;
                get_at(fd, names[i], end - back, &length);
                set_at(fd, names[i], end - back, 4);
                int value = 1;
                *(int *)(void *)(end - 8) = 4;
                *(int *)(void *)(end - 4) = 4;
                get_at(fd, names[i], &value, (socklen_t *)(void *)(end - back));
            }
        }
    }
    MUST(munmap(page, 2 * PAGE));
}

static ucontext_t back_to, there;
static unsigned char *stack_end;

/* Runs close to the end of a stack behind which there is nothing. */
static void at_the_end_of_a_stack(void) {
    for (int back = 32; back >= 0; back -= 2) {
        socklen_t length = 28;
        printf("%d before the stack's end\n", back);
        printf("%d %s\n", getsockname(v4_socket, (struct sockaddr *)(stack_end - back), &length), errno_name(errno));
        length = 28;
        printf("%d %s\n", getpeername(v6_socket, (struct sockaddr *)(stack_end - back), &length), errno_name(errno));
        length = 4;
        get_at(v4_socket, TCP_NODELAY, stack_end - back, &length);
        get_at(v4_socket, TCP_KEEPIDLE, stack_end - back, &length);
        set_at(v4_socket, TCP_NODELAY, stack_end - back, 4);
        get_at(v4_socket, TCP_NODELAY, &length, (socklen_t *)(void *)(stack_end - back));
        errno = 0;
    }
}

static void on_another_stack(void) {
    unsigned char *stack = mmap(NULL, STACK + PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (stack == MAP_FAILED)
        exit(99);
    stack_end = stack + STACK;
    MUST(mprotect(stack_end, PAGE, PROT_NONE));
    MUST(getcontext(&there));
    there.uc_stack.ss_sp = stack;
    there.uc_stack.ss_size = STACK - 64;
    there.uc_link = &back_to;
    makecontext(&there, at_the_end_of_a_stack, 0);
    MUST(swapcontext(&back_to, &there));
    MUST(munmap(stack, STACK + PAGE));
}

int main(void) {
    int accepted, s = tcp6();
    connected_pair(&v4_socket, &accepted);
    struct sockaddr_in6 a = v6(0);
    MUST(bind(s, SA(a), sizeof a));
    MUST(listen(s, 5));
    a = v6(port_of(s));
    v6_socket = tcp6();
    MUST(connect(v6_socket, SA(a), sizeof a));
    int fds[] = {v4_socket, accepted, v6_socket, s};
    for (int round = 0; round < 3; round++) {
        for (size_t i = 0; i < sizeof fds / sizeof *fds; i++) {
            printf("round %d, socket %zu\n", round, i);
            all_lengths(fds[i]);
            edges(fds[i]);
        }
        on_another_stack();
    }
    return 0;
}
