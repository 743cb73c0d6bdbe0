// Socket calls of the 32-bit interface, from a 64-bit program: refused rather than left unwrapped, and nobody dies.
// expect: i386_socketcall.expected
#include "probe.h"

/* int 0x80 takes the 32-bit system call numbers; pointers must lie in the low 4 GB. */
static long call32(long number, long a, long b, long c, long d, long e) {
    long result;
    __asm__ volatile("push %%rbp; xor %%ebp, %%ebp; int $0x80; pop %%rbp"
                     : "=a"(result)
                     : "a"(number), "b"(a), "c"(b), "d"(c), "S"(d), "D"(e)
                     : "memory", "r8", "r9", "r10", "r11", "cc");
    return result;
}

static void show32(const char *label, long result) {
    printf("%s: %s\n", label, result < 0 ? errno_name((int)-result) : "ok");
}

int main(void) {
    uint32_t *args = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    if (args == MAP_FAILED)
        return 1;
    args[0] = AF_INET;
    args[1] = SOCK_STREAM;
    args[2] = 0;
    show32("getpid", call32(20, 0, 0, 0, 0, 0));
    show32("socketcall(SYS_SOCKET)", call32(102, 1, (long)args, 0, 0, 0));
    show32("socket", call32(359, AF_INET, SOCK_STREAM, 0, 0, 0));
    printf("alive\n");
    return 0;
}
