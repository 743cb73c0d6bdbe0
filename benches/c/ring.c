/* ring BYTES ROUNDS: what the way between a program and its supervisor costs, by a pair of Unix sockets and by a ring in
 * shared memory, whose readiness goes through the same pair. Two processes; prints processor time of both for each
 * gigabyte, and the median of round trips in microseconds, with both on one processor and on two. */
#define _GNU_SOURCE
#include "bench.h"
#include <sched.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

enum { PIECE = 128 << 10, BUFFER = 1 << 20, TAKEN = 256 << 10, MESSAGE = 30 };

/* One direction. Who finds it empty or full says so before looking again, and is woken by a byte. */
struct ring {
    _Alignas(64) _Atomic size_t written;
    _Atomic int reader_waits;
    _Alignas(64) _Atomic size_t read;
    _Atomic int writer_waits;
    _Alignas(64) char bytes[BUFFER];
};

/* One end: a socket of the pair, and the rings if they carry the bytes. */
struct end {
    int fd;
    struct ring *out, *in;
};

static void wake(int fd)
{
    if (write(fd, "", 1) != 1)
        fail("write");
}

static void sleep_until_woken(int fd)
{
    char byte;
    if (read(fd, &byte, 1) != 1)
        fail("read");
}

static size_t copy_in(struct ring *ring, const char *from, size_t count)
{
    size_t written = ring->written, room = BUFFER - (written - ring->read), at = written % BUFFER;
    count = count < room ? count : room;
    size_t first = count < BUFFER - at ? count : BUFFER - at;
    memcpy(ring->bytes + at, from, first);
    memcpy(ring->bytes, from + first, count - first);
    ring->written = written + count;
    return count;
}

static size_t copy_out(struct ring *ring, char *to, size_t count)
{
    size_t read = ring->read, there = ring->written - read, at = read % BUFFER;
    count = count < there ? count : there;
    size_t first = count < BUFFER - at ? count : BUFFER - at;
    memcpy(to, ring->bytes + at, first);
    memcpy(to + first, ring->bytes, count - first);
    ring->read = read + count;
    return count;
}

static void put(struct end *end, const char *from, size_t count)
{
    while (count) {
        ssize_t done;
        if (!end->out) {
            done = write(end->fd, from, count);
            if (done <= 0)
                fail("write");
        } else {
            done = copy_in(end->out, from, count);
            if (done && atomic_exchange(&end->out->reader_waits, 0))
                wake(end->fd);
            if (!done) {
                end->out->writer_waits = 1;
                if (end->out->written - end->out->read == BUFFER || !atomic_exchange(&end->out->writer_waits, 0))
                    sleep_until_woken(end->fd);
            }
        }
        from += done;
        count -= done;
    }
}

static size_t take(struct end *end, char *to, size_t most)
{
    for (;;) {
        if (!end->in) {
            ssize_t done = read(end->fd, to, most);
            if (done <= 0)
                fail("read");
            return done;
        }
        size_t done = copy_out(end->in, to, most);
        if (done) {
            if (atomic_exchange(&end->in->writer_waits, 0))
                wake(end->fd);
            return done;
        }
        end->in->reader_waits = 1;
        if (end->in->written == end->in->read || !atomic_exchange(&end->in->reader_waits, 0))
            sleep_until_woken(end->fd);
    }
}

static void run_on(int processor)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(processor, &set);
    if (sched_setaffinity(0, sizeof set, &set) != 0)
        fail("sched_setaffinity: two processors are needed");
}

static double processor_time(int who)
{
    struct rusage usage;
    getrusage(who, &usage);
    return usage.ru_utime.tv_sec + usage.ru_stime.tv_sec + (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static void take_all(struct end *end, char *to, size_t count)
{
    while (count)
        count -= take(end, to, count);
}

static void serve(struct end *end, size_t bytes, int rounds)
{
    static char content[TAKEN];
    while (bytes)
        bytes -= take(end, content, bytes < TAKEN ? bytes : TAKEN);
    put(end, content, MESSAGE);
    while (rounds--) {
        take_all(end, content, MESSAGE);
        put(end, content, MESSAGE);
    }
    exit(0);
}

static void measure(const char *name, int shared, int processors, size_t bytes, int rounds)
{
    static char content[PIECE];
    int pair[2], size = BUFFER;
    struct ring *rings = NULL;
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0)
        fail("socketpair");
    for (int side = 0; side < 2; side++)
        if (setsockopt(pair[side], SOL_SOCKET, SO_SNDBUF, &size, sizeof size) != 0)
            fail("SO_SNDBUF");
    if (shared) {
        rings = mmap(NULL, 2 * sizeof *rings, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (rings == MAP_FAILED)
            fail("mmap");
        memset(rings, 0, 2 * sizeof *rings);
    }
    struct end ours = {pair[0], rings, rings ? rings + 1 : NULL};
    struct end theirs = {pair[1], rings ? rings + 1 : NULL, rings};
    double before = processor_time(RUSAGE_SELF) + processor_time(RUSAGE_CHILDREN);
    fflush(stdout);
    pid_t child = fork();
    if (child < 0)
        fail("fork");
    run_on(child ? 0 : processors - 1);
    if (!child)
        serve(&theirs, bytes, rounds);
    double begin = now(), *times = room_for(rounds);
    for (size_t left = bytes; left; left -= left < PIECE ? left : PIECE)
        put(&ours, content, left < PIECE ? left : PIECE);
    take_all(&ours, content, MESSAGE);
    double seconds = (now() - begin) / 1e9;
    for (int round = 0; round < rounds; round++) {
        double sent = now();
        put(&ours, content, MESSAGE);
        take_all(&ours, content, MESSAGE);
        times[round] = now() - sent;
    }
    int status;
    if (waitpid(child, &status, 0) != child || status != 0) {
        fprintf(stderr, "the other process has failed\n");
        exit(1);
    }
    double spent = processor_time(RUSAGE_SELF) + processor_time(RUSAGE_CHILDREN) - before;
    printf("%s, %d processors: %.2f GB/s, %.3f s/GB, %.2f us a round trip\n", name, processors, bytes / seconds / 1e9,
           spent / (bytes / 1e9), median(times, rounds) / 1e3);
    close(pair[0]);
    close(pair[1]);
    free(times);
    if (rings)
        munmap(rings, 2 * sizeof *rings);
}

int main(int argc, char **argv)
{
    need_arguments(argc, 2, "ring BYTES ROUNDS");
    for (int processors = 1; processors <= 2; processors++) {
        measure("pair", 0, processors, atoll(argv[1]), atoi(argv[2]));
        measure("ring", 1, processors, atoll(argv[1]), atoi(argv[2]));
    }
    return 0;
}
