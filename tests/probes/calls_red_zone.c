// Functions that call no other may keep data below the stack pointer, also across a system call.
#include "probe.h"

/* getsockname(fd, address, length) with a value below the stack pointer; returns that. */
long keeps(int fd, void *address, socklen_t *length);
/* The same with the address itself there; returns its family. */
long points(int fd, socklen_t *length);
/* As keeps, by a frame pointer. */
long keeps_in_frame(int fd, void *address, socklen_t *length);
/* As keeps, with the call in a block behind the function, where compilers put what is rare. */
long keeps_from_behind(int fd, void *address, socklen_t *length);
/* As keeps_in_frame, behind a function that makes room for itself; and with less room than it needs. */
long keeps_behind_another(int fd, void *address, socklen_t *length);
long keeps_beyond_room(int fd, void *address, socklen_t *length);

__asm__(".text\n.p2align 6\nkeeps:\n"
        "movq $77, -8(%rsp)\nmov $51, %eax\nsyscall\nmov -8(%rsp), %rax\nret\n"
        ".p2align 6\npoints:\n"
        "mov %rsi, %rdx\nlea -64(%rsp), %rsi\nmov $51, %eax\nsyscall\nmovzwl -64(%rsp), %eax\nret\n"
        ".p2align 6\nkeeps_in_frame:\n"
        "push %rbp\nmov %rsp, %rbp\nmovq $78, -8(%rbp)\nmov $51, %eax\nsyscall\n"
        "mov -8(%rbp), %rax\npop %rbp\nret\n"
        ".p2align 6\nkeeps_from_behind:\n"
        "movq $79, -8(%rsp)\ntest %edi, %edi\njns 2f\n1:\nmov -8(%rsp), %rax\nret\n"
        ".p2align 4\n2:\nmov $51, %eax\nsyscall\njmp 1b\n"
        ".p2align 6\nsub $88, %rsp\nadd $88, %rsp\nret\nkeeps_behind_another:\n"
        "push %rbp\nmov %rsp, %rbp\nmovq $80, -8(%rbp)\nmov $51, %eax\nsyscall\nmov -8(%rbp), %rax\npop %rbp\nret\n"
        ".p2align 6\nkeeps_beyond_room:\n"
        "push %rbp\nmov %rsp, %rbp\nsub $16, %rsp\nmovq $81, -24(%rbp)\nmov $51, %eax\nsyscall\n"
        "mov -24(%rbp), %rax\nleave\nret\n");

int main(void) {
    int fd = MUST(socket(AF_INET, SOCK_STREAM, 0));
    for (int round = 0; round < 4; round++) {
        struct sockaddr_in address;
        socklen_t length = sizeof address;
        printf("kept %ld, ", keeps(fd, &address, &length));
        printf("kept %ld, ", keeps_in_frame(fd, &address, &length));
        printf("kept %ld, ", keeps_from_behind(fd, &address, &length));
        printf("kept %ld, ", keeps_behind_another(fd, &address, &length));
        printf("kept %ld, ", keeps_beyond_room(fd, &address, &length));
        printf("length %u, family %ld\n", length, points(fd, &length));
    }
    return 0;
}
