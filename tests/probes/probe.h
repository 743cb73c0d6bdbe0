/* Helpers for probes. A probe prints what a program sees of its sockets, in a form that does not depend on
 * ports, pids or timing. Both ends of a connection are in the probe: natively it is plain TCP, wrapped it is
 * QUIC, and the harness compares the two transcripts. */
#ifndef PROBE_H
#define PROBE_H

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define UNUSED __attribute__((unused))
#define SA(a) ((struct sockaddr *)&(a))

/* Milliseconds after which something that must happen has not, and that nothing happens in. */
enum { SOON = 10000, QUIET = 60 };

/* ---- the transcript ---- */

UNUSED static const char *errno_name(int e) {
    const char *name = strerrorname_np(e);
    return name ? name : "E?";
}

/* T(call): run it and print "call = result ERRNO"; the value is the call's result. */
#define T(call) probe_result(#call, (errno = 0, (long)(call)))
/* TFD(call): the same for calls that return a descriptor, whose number does not matter. */
#define TFD(call) probe_fd(#call, (errno = 0, (int)(call)))
/* MUST(call): not what the probe is about; end it if it fails. */
#define MUST(call) probe_must(__FILE__, __LINE__, #call, (errno = 0, (long)(call)))

UNUSED static long probe_result(const char *text, long result) {
    int e = errno;
    printf("%s = %ld%s%s\n", text, result, result == -1 ? " " : "", result == -1 ? errno_name(e) : "");
    errno = e;
    return result;
}

UNUSED static int probe_fd(const char *text, int fd) {
    int e = errno;
    printf("%s = %s\n", text, fd >= 0 ? "fd" : errno_name(e));
    errno = e;
    return fd;
}

UNUSED static long probe_must(const char *file, int line, const char *text, long result) {
    if (result == -1) {
        printf("%s:%d: %s failed: %s\n", strrchr(file, '/') ? strrchr(file, '/') + 1 : file, line, text, errno_name(errno));
        exit(99);
    }
    return result;
}

/* Ports in order of appearance, the same names in every process forked from the probe. */
static uint16_t *probe_ports;
enum { PROBE_PORTS = 64 };

/* Before main: lines appear whole and at once, from every process; a probe that hangs dies of SIGALRM. */
__attribute__((constructor)) static void probe_start(void) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    probe_ports = mmap(NULL, PROBE_PORTS * sizeof *probe_ports, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (probe_ports == MAP_FAILED)
        exit(98);
}

UNUSED static const char *port_name(uint16_t port) {
    static __thread char name[8];
    if (port == 0)
        return "0";
    for (int i = 0; i < PROBE_PORTS; i++) {
        if (probe_ports[i] == 0)
            probe_ports[i] = port;
        if (probe_ports[i] == port) {
            snprintf(name, sizeof name, "P%d", i + 1);
            return name;
        }
    }
    return "P?";
}

UNUSED static void show_addr(const char *label, const void *address, socklen_t len) {
    const struct sockaddr_storage *a = address;
    char text[INET6_ADDRSTRLEN];
    if (a->ss_family == AF_INET) {
        const struct sockaddr_in *in = address;
        inet_ntop(AF_INET, &in->sin_addr, text, sizeof text);
        printf("%s: %s:%s (length %u)\n", label, text, port_name(ntohs(in->sin_port)), len);
    } else if (a->ss_family == AF_INET6) {
        const struct sockaddr_in6 *in = address;
        inet_ntop(AF_INET6, &in->sin6_addr, text, sizeof text);
        printf("%s: [%s]:%s scope %u flow %u (length %u)\n", label, text, port_name(ntohs(in->sin6_port)),
               in->sin6_scope_id, in->sin6_flowinfo, len);
    } else {
        printf("%s: family %d (length %u)\n", label, a->ss_family, len);
    }
}

UNUSED static void show_names(const char *label, int fd) {
    struct sockaddr_storage a;
    socklen_t len = sizeof a;
    char text[80];
    memset(&a, 0, sizeof a);
    snprintf(text, sizeof text, "%s sockname", label);
    if (getsockname(fd, SA(a), &len) < 0)
        printf("%s: %s\n", text, errno_name(errno));
    else
        show_addr(text, &a, len);
    len = sizeof a;
    memset(&a, 0, sizeof a);
    snprintf(text, sizeof text, "%s peername", label);
    if (getpeername(fd, SA(a), &len) < 0)
        printf("%s: %s\n", text, errno_name(errno));
    else
        show_addr(text, &a, len);
}

UNUSED static const char *poll_names(unsigned bits) {
    static __thread char text[96];
    static const struct { unsigned bit; const char *name; } names[] = {
        {POLLIN, "IN"}, {POLLPRI, "PRI"}, {POLLOUT, "OUT"}, {POLLERR, "ERR"},
        {POLLHUP, "HUP"}, {POLLNVAL, "NVAL"}, {POLLRDHUP, "RDHUP"},
    };
    text[0] = 0;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (bits & names[i].bit) {
            if (text[0])
                strcat(text, "|");
            strcat(text, names[i].name);
        }
    return text[0] ? text : "-";
}

/* Everything poll can say about fd now, or within `ms` if nothing is to be said now. */
UNUSED static unsigned poll_now(int fd, int ms) {
    struct pollfd p = {.fd = fd, .events = POLLIN | POLLPRI | POLLOUT | POLLRDHUP};
    return poll(&p, 1, ms) > 0 ? (unsigned short)p.revents : 0;
}

UNUSED static void show_poll(const char *label, int fd) {
    printf("%s poll: %s\n", label, poll_names(poll_now(fd, 0)));
}

/* Wait until poll reports all of `bits`: lets what the other side did arrive. Prints only if it never does. */
UNUSED static void settle(int fd, unsigned bits) {
    struct timespec pause = {.tv_nsec = 2000000};
    /* TCP shows both at once, AF_UNIX writability when what was unread is released, a moment after the error. */
    if (bits & POLLERR)
        bits |= POLLOUT;
    for (int i = 0; i < SOON / 2; i++) {
        struct pollfd p = {.fd = fd, .events = (short)bits};
        poll(&p, 1, 0);
        if (((unsigned short)p.revents & bits) == bits)
            return;
        nanosleep(&pause, NULL);
    }
    printf("never became %s\n", poll_names(bits));
    printf("but is %s\n", poll_names(poll_now(fd, 0)));
}

/* Wait until this many bytes can be read. */
UNUSED static void settle_bytes(int fd, int want) {
    struct timespec pause = {.tv_nsec = 2000000};
    int n = -1;
    for (int i = 0; i < SOON / 2 && n != want; i++) {
        ioctl(fd, FIONREAD, &n);
        if (n != want)
            nanosleep(&pause, NULL);
    }
    if (n != want)
        printf("never became readable: %d bytes, but %d\n", want, n);
}

UNUSED static int so_error(int fd) {
    int e = -1;
    socklen_t len = sizeof e;
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &e, &len) < 0)
        return -1;
    return e;
}

UNUSED static void show_error(const char *label, int fd) {
    int e = so_error(fd);
    printf("%s SO_ERROR: %s\n", label, e ? errno_name(e) : "0");
}

/* ---- sockets ---- */

UNUSED static struct sockaddr_in v4(uint16_t port) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return a;
}

UNUSED static struct sockaddr_in6 v6(uint16_t port) {
    struct sockaddr_in6 a = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    a.sin6_addr = in6addr_loopback;
    return a;
}

UNUSED static uint16_t port_of(int fd) {
    struct sockaddr_storage a;
    socklen_t len = sizeof a;
    MUST(getsockname(fd, SA(a), &len));
    return ntohs(a.ss_family == AF_INET ? ((struct sockaddr_in *)&a)->sin_port : ((struct sockaddr_in6 *)&a)->sin6_port);
}

UNUSED static int tcp4(void) { return (int)MUST(socket(AF_INET, SOCK_STREAM, 0)); }
UNUSED static int tcp6(void) { return (int)MUST(socket(AF_INET6, SOCK_STREAM, 0)); }

/* A socket listening on 127.0.0.1, port chosen by the kernel. */
UNUSED static int listener4(void) {
    int fd = tcp4();
    struct sockaddr_in a = v4(0);
    MUST(bind(fd, SA(a), sizeof a));
    MUST(listen(fd, 128));
    return fd;
}

/* Connect to a listener of listener4(), blocking. */
UNUSED static int client4(int listener) {
    int fd = tcp4();
    struct sockaddr_in a = v4(port_of(listener));
    MUST(connect(fd, SA(a), sizeof a));
    return fd;
}

UNUSED static void connected_pair(int *client, int *server) {
    int listener = listener4();
    *client = client4(listener);
    *server = (int)MUST(accept(listener, NULL, NULL));
    close(listener);
}

/* A port on 127.0.0.1 where nobody listens: bound, but never listened on. Keep *holder open. */
UNUSED static uint16_t closed_port(int *holder) {
    struct sockaddr_in a = v4(0);
    *holder = tcp4();
    MUST(bind(*holder, SA(a), sizeof a));
    return port_of(*holder);
}

UNUSED static void nonblocking(int fd) { MUST(fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK)); }

UNUSED static void send_all(int fd, const void *data, size_t len) {
    for (const char *p = data; len;) {
        ssize_t n = MUST(write(fd, p, len));
        p += n;
        len -= (size_t)n;
    }
}

/* Read exactly len bytes, or up to the end of data; returns how many. */
UNUSED static size_t read_all(int fd, void *data, size_t len) {
    size_t done = 0;
    while (done < len) {
        ssize_t n = MUST(read(fd, (char *)data + done, len - done));
        if (n == 0)
            break;
        done += (size_t)n;
    }
    return done;
}

/* Read what there is and print it: "label read: 5 "hello"". */
UNUSED static void show_read(const char *label, int fd) {
    char buffer[256];
    ssize_t n = read(fd, buffer, sizeof buffer - 1);
    if (n < 0)
        printf("%s read: %s\n", label, errno_name(errno));
    else
        printf("%s read: %zd \"%.*s\"\n", label, n, (int)n, buffer);
}

/* ---- processes ---- */

/* Sends a descriptor over an AF_UNIX socket, and takes one. */
UNUSED static void pass_fd(int over, int fd) {
    char control[CMSG_SPACE(sizeof fd)] = {0}, byte = 'f';
    struct iovec v = {&byte, 1};
    struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *h = CMSG_FIRSTHDR(&m);
    h->cmsg_level = SOL_SOCKET;
    h->cmsg_type = SCM_RIGHTS;
    h->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(h), &fd, sizeof fd);
    MUST(sendmsg(over, &m, 0));
}

UNUSED static int receive_fd(int over) {
    int fd = -1;
    char control[CMSG_SPACE(sizeof fd)], byte;
    struct iovec v = {&byte, 1};
    struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    MUST(recvmsg(over, &m, 0));
    struct cmsghdr *h = CMSG_FIRSTHDR(&m);
    if (h && h->cmsg_type == SCM_RIGHTS)
        memcpy(&fd, CMSG_DATA(h), sizeof fd);
    return fd;
}

/* Gates let one process or thread wait for another. */
struct gate { int r, w; };

UNUSED static struct gate gate(void) {
    int fds[2];
    MUST(pipe2(fds, O_CLOEXEC));
    return (struct gate){fds[0], fds[1]};
}
UNUSED static void gate_open(struct gate g) { MUST(write(g.w, "x", 1)); }
UNUSED static void gate_wait(struct gate g) {
    char c;
    while (read(g.r, &c, 1) < 0 && errno == EINTR)
        ;
}

UNUSED static void show_status(const char *label, pid_t pid) {
    int status;
    MUST(waitpid(pid, &status, 0));
    if (WIFSIGNALED(status))
        printf("%s: killed by SIG%s\n", label, sigabbrev_np(WTERMSIG(status)));
    else
        printf("%s: exit %d\n", label, WEXITSTATUS(status));
}

/* Wait until a thread (or process) sleeps in the kernel: it is blocked in the call it was sent to make. */
UNUSED static void wait_blocked(pid_t tid) {
    char path[64], line[512];
    struct timespec pause = {.tv_nsec = 5000000};
    snprintf(path, sizeof path, "/proc/%d/stat", tid);
    /* Asleep at several looks in a row, so that a short wait on the way to the call is not taken for it. */
    for (int asleep = 0, i = 0; asleep < 6 && i < SOON / 5; i++) {
        FILE *f = fopen(path, "r");
        char *end = f && fgets(line, sizeof line, f) ? strrchr(line, ')') : NULL;
        asleep = end && end[2] == 'S' ? asleep + 1 : 0;
        if (f)
            fclose(f);
        nanosleep(&pause, NULL);
    }
}

UNUSED static pid_t thread_id(void) { return (pid_t)syscall(SYS_gettid); }

/* A non-blocking connect to a port where nobody listens. */
UNUSED static int refused(struct sockaddr_in *closed) {
    int c = (int)MUST(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
    errno = 0;
    int r = connect(c, (struct sockaddr *)closed, sizeof *closed);
    /* On loopback the answer may be there before connect returns. */
    printf("connect: %s\n", r < 0 && (errno == EINPROGRESS || errno == ECONNREFUSED) ? "in progress or refused" : "?");
    return c;
}

#endif
