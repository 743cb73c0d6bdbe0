// A signal interrupts a blocked connect: EINTR and the attempt goes on; with SA_RESTART the call goes on.
// net: silent
#include "probe.h"

static volatile sig_atomic_t caught;
static void handler(int signal) {
    (void)signal;
    caught++;
}

static struct gate ready;
static pid_t tid;
static int fd;

static void *blocked(void *unused) {
    struct sockaddr_in a = v4(4000);
    (void)unused;
    inet_pton(AF_INET, "10.9.9.9", &a.sin_addr);
    tid = thread_id();
    gate_open(ready);
    errno = 0;
    int r = connect(fd, SA(a), sizeof a);
    printf("connect: %d %s, handler ran %d\n", r, errno_name(errno), caught);
    return NULL;
}

int main(void) {
    int flags[] = {0, SA_RESTART};
    ready = gate();
    for (int i = 0; i < 2; i++) {
        struct sigaction a = {.sa_handler = handler, .sa_flags = flags[i]};
        struct timeval limit = {.tv_usec = 600000};
        pthread_t thread;
        caught = 0;
        fd = tcp4();
        sigaction(SIGUSR1, &a, NULL);
        /* With a limit the call is not restarted (signal(7)). */
        if (i)
            MUST(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit));
        pthread_create(&thread, NULL, blocked, NULL);
        gate_wait(ready);
        wait_blocked(tid);
        pthread_kill(thread, SIGUSR1);
        pthread_join(thread, NULL);
        show_poll("then", fd);
        nonblocking(fd);
        struct sockaddr_in nobody = v4(4000);
        inet_pton(AF_INET, "10.9.9.9", &nobody.sin_addr);
        T(connect(fd, SA(nobody), sizeof nobody));
        close(fd);
    }
    /* Without a limit it is: end the attempt another way. */
    struct sigaction a = {.sa_handler = handler, .sa_flags = SA_RESTART};
    pthread_t thread;
    unsigned patience = 1500;
    caught = 0;
    sigaction(SIGUSR1, &a, NULL);
    fd = tcp4();
    MUST(setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &patience, sizeof patience));
    pthread_create(&thread, NULL, blocked, NULL);
    gate_wait(ready);
    wait_blocked(tid);
    for (int i = 1; i <= 2; i++) {
        pthread_kill(thread, SIGUSR1);
        for (int j = 0; j < SOON && caught < i; j++)
            poll(NULL, 0, 1);
    }
    pthread_join(thread, NULL);
    return 0;
}
