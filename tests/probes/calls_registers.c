// A system call changes rax, rcx and r11; no other register, no flag, no vector, and no memory below the stack
// pointer. There are a site that loads the number just before, and one for any number.
#include "probe.h"
#include <stddef.h>

/* What a call finds and leaves: general registers, flags, two vectors. */
struct registers {
    uint64_t rax, rdi, rsi, rdx, r10, r8, r9, rbx, rbp, r12, r13, r14, r15, flags, rcx, r11, back, xmm[4];
};

void call_constant(struct registers *registers);
void call_any(struct registers *registers);

/* Both load everything, make the call, and store everything. The stack pointer's old value lies in a static. */
#define BODY(name, load_number)                                                                                      \
    ".globl " name "\n.type " name ", @function\n" name ":\n"                                                        \
    "push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15; push %rdi\n"                                  \
    "movdqu 17*8(%rdi), %xmm5; movdqu 19*8(%rdi), %xmm15\n"                                                          \
    "push 13*8(%rdi); popfq\n"                                                                                       \
    "mov 2*8(%rdi), %rsi; mov 3*8(%rdi), %rdx; mov 4*8(%rdi), %r10; mov 5*8(%rdi), %r8; mov 6*8(%rdi), %r9\n"         \
    "mov 7*8(%rdi), %rbx; mov 8*8(%rdi), %rbp; mov 9*8(%rdi), %r12; mov 10*8(%rdi), %r13; mov 11*8(%rdi), %r14\n"     \
    "mov 12*8(%rdi), %r15\n" load_number                                                                             \
    "syscall\n"                                                                                                      \
    "1: push %rdi; mov 8(%rsp), %rdi; mov %rax, 0*8(%rdi); pop 1*8(%rdi)\n"                                          \
    "mov %rsi, 2*8(%rdi); mov %rdx, 3*8(%rdi); mov %r10, 4*8(%rdi); mov %r8, 5*8(%rdi); mov %r9, 6*8(%rdi)\n"         \
    "mov %rbx, 7*8(%rdi); mov %rbp, 8*8(%rdi); mov %r12, 9*8(%rdi); mov %r13, 10*8(%rdi); mov %r14, 11*8(%rdi)\n"     \
    "mov %r15, 12*8(%rdi); pushfq; pop 13*8(%rdi); mov %rcx, 14*8(%rdi); mov %r11, 15*8(%rdi)\n"                     \
    "lea 1b(%rip), %rcx; mov %rcx, 16*8(%rdi)\n"                                                                     \
    "movdqu %xmm5, 17*8(%rdi); movdqu %xmm15, 19*8(%rdi)\n"                                                          \
    "cld; pop %rdi; pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx; ret\n.size " name ", .-" name "\n"

__asm__(".text\n.p2align 6\n"
        BODY("call_any", "push (%rdi); push 1*8(%rdi); pop %rdi; pop %rax\n")
        ".p2align 6\n"
        /* The number is in the code; the alignment keeps its instruction in one cache line. */
        BODY("call_constant", "mov 1*8(%rdi), %rdi\n.p2align 5\nmov $51, %eax\n"));

static const uint64_t FLAGS[] = {0x202, 0x247, 0xad7};

static void look(const char *name, void (*call)(struct registers *), int fd, uint64_t flags) {
    struct sockaddr_storage address;
    socklen_t length = sizeof address;
    struct registers given = {
        .rax = SYS_getsockname, .rdi = fd, .rsi = (uintptr_t)&address, .rdx = (uintptr_t)&length, .r10 = 0x1010101010101010,
        .r8 = 0x0808080808080808, .r9 = 0x0909090909090909, .rbx = 0xb0b0b0b0b0b0b0b0, .rbp = 0xbebebebebebebebe,
        .r12 = 12, .r13 = 13, .r14 = 14, .r15 = 15, .flags = flags, .xmm = {1, 2, 3, 4},
    };
    struct registers seen = given;
    call(&seen);
    int same = memcmp(&given.rdi, &seen.rdi, offsetof(struct registers, flags) - offsetof(struct registers, rdi)) == 0;
    printf("%s, flags %#lx: %ld, length %u, registers %s, vectors %s, flags %s, rcx %s, r11 %s\n", name,
           (unsigned long)flags, (long)seen.rax, length, same ? "same" : "changed",
           memcmp(given.xmm, seen.xmm, sizeof given.xmm) ? "changed" : "same", seen.flags == flags ? "same" : "changed",
           seen.rcx == seen.back ? "is the next instruction" : "is not", seen.r11 == seen.flags ? "is the flags" : "is not");
}

int main(void) {
    int tcp = MUST(socket(AF_INET, SOCK_STREAM, 0)), udp = MUST(socket(AF_INET, SOCK_DGRAM, 0));
    int six = MUST(socket(AF_INET6, SOCK_STREAM, 0));
    int fds[] = {tcp, udp, six, -1, 0};
    for (int round = 0; round < 3; round++)
        for (size_t i = 0; i < sizeof fds / sizeof *fds; i++)
            for (size_t f = 0; f < sizeof FLAGS / sizeof *FLAGS; f++) {
                look("constant", call_constant, fds[i], FLAGS[f]);
                look("any", call_any, fds[i], FLAGS[f]);
            }
    return 0;
}
