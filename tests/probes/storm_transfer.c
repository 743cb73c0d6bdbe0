// A signal every millisecond in both processes of a transfer: no byte lost or doubled.
#include "probe.h"

enum { SIZE = 16 << 20, BLOCK = 50000 };
static volatile sig_atomic_t caught;
static void handler(int signal) {
    (void)signal;
    caught++;
}

static void storm(void) {
    struct sigaction a = {.sa_handler = handler};
    struct itimerval every = {{0, 1000}, {0, 1000}};
    sigaction(SIGALRM, &a, NULL);
    setitimer(ITIMER_REAL, &every, NULL);
}

static unsigned char byte_at(long i) { return (unsigned char)(i * 31 + i / 251); }

int main(void) {
    int c, d, wrong = 0;
    static unsigned char block[BLOCK];
    connected_pair(&c, &d);
    pid_t child = fork();
    storm();
    if (child == 0) {
        close(d);
        for (long done = 0; done < SIZE;) {
            long want = SIZE - done < BLOCK ? SIZE - done : BLOCK;
            for (long i = 0; i < want; i++)
                block[i] = byte_at(done + i);
            ssize_t n = write(c, block, (size_t)want);
            if (n < 0 && errno != EINTR)
                _exit(1);
            done += n > 0 ? n : 0;
        }
        _exit(0);
    }
    close(c);
    long done = 0;
    for (ssize_t n;;) {
        while ((n = read(d, block, sizeof block)) < 0 && errno == EINTR)
            ;
        if (n <= 0)
            break;
        for (long i = 0; i < n; i++)
            wrong += block[i] != byte_at(done + i);
        done += n;
    }
    struct itimerval calm = {0};
    setitimer(ITIMER_REAL, &calm, NULL);
    printf("received %ld, wrong %d\n", done, wrong);
    show_status("sender", child);
    return 0;
}
