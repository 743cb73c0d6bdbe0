/* Loaded into quicwrap when it runs under valgrind: what valgrind would get in the way of.
 *
 * valgrind 3.19 answers ENOSYS to four calls it does not know. They take no memory that it would have to watch, and
 * do not wait, so they are made on the real processor, with a client request that is meant for such things. Other
 * calls go the ordinary way. Outside valgrind the request does nothing, so `raw` is called instead. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdarg.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <valgrind/valgrind.h>

enum { ARGUMENTS = 6 };

/* Touches neither the stack protector nor errno: the thread's own data are not in place on the real processor. */
static long raw(const long *call)
{
    register long fourth __asm__("r10") = call[4];
    register long fifth __asm__("r8") = call[5];
    register long sixth __asm__("r9") = call[6];
    long result;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(call[0]), "D"(call[1]), "S"(call[2]), "d"(call[3]), "r"(fourth), "r"(fifth), "r"(sixth)
                     : "rcx", "r11", "memory");
    return result;
}

static long outside(long thread, const long *call)
{
    (void)thread;
    return raw(call);
}

static long returned(long result)
{
    if (result >= -4095 && result < 0) {
        errno = (int)-result;
        return -1;
    }
    return result;
}

/* callgrind.py adds the calls of this to the system calls, which callgrind does not see. */
__attribute__((noinline)) static long unseen_system_call(long *call)
{
    return returned(VALGRIND_NON_SIMD_CALL1(outside, call));
}

static int is_unknown(long number)
{
    return number == SYS_seccomp || number == SYS_pidfd_open || number == SYS_pidfd_getfd
        || number == SYS_pidfd_send_signal;
}

long syscall(long number, ...)
{
    long call[1 + ARGUMENTS] = {number};
    va_list arguments;
    va_start(arguments, number);
    for (int index = 1; index <= ARGUMENTS; index++)
        call[index] = va_arg(arguments, long);
    va_end(arguments);
    if (RUNNING_ON_VALGRIND && is_unknown(number))
        return unseen_system_call(call);
    return returned(raw(call));
}

/* net.core.rmem_max and wmem_max differ between machines, and with them what is lost and sent again. Root is given
 * what it asks for. */
int setsockopt(int fd, int level, int name, const void *value, socklen_t length)
{
    int forced = name == SO_RCVBUF ? SO_RCVBUFFORCE : SO_SNDBUFFORCE;
    if (level == SOL_SOCKET && (name == SO_RCVBUF || name == SO_SNDBUF)) {
        const long call[] = {SYS_setsockopt, fd, level, forced, (long)value, length, 0};
        if (raw(call) == 0)
            return 0;
    }
    const long call[] = {SYS_setsockopt, fd, level, name, (long)value, length, 0};
    return (int)returned(raw(call));
}
