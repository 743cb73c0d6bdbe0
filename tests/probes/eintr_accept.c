// A signal interrupts a blocked accept: EINTR without SA_RESTART, going on waiting with it.
#include "probe.h"

static volatile sig_atomic_t caught;
static void handler(int signal) {
    (void)signal;
    caught++;
}

static int s;
static pid_t acceptor;
static struct gate ready;

static void *blocked(void *unused) {
    (void)unused;
    acceptor = thread_id();
    gate_open(ready);
    errno = 0;
    int fd = accept(s, NULL, NULL);
    printf("accept: %s, handler ran %d\n", fd >= 0 ? "fd" : errno_name(errno), caught);
    return NULL;
}

int main(void) {
    s = listener4();
    ready = gate();
    int flags[] = {0, SA_RESTART};
    for (int i = 0; i < 2; i++) {
        struct sigaction a = {.sa_handler = handler, .sa_flags = flags[i]};
        pthread_t thread;
        caught = 0;
        sigaction(SIGUSR1, &a, NULL);
        pthread_create(&thread, NULL, blocked, NULL);
        gate_wait(ready);
        wait_blocked(acceptor);
        pthread_kill(thread, SIGUSR1);
        int c = -1;
        if (flags[i] == SA_RESTART) {
            for (int j = 0; j < SOON && !caught; j++)
                poll(NULL, 0, 1);
            wait_blocked(acceptor);
            pthread_kill(thread, SIGUSR1);
            for (int j = 0; j < SOON && caught < 2; j++)
                poll(NULL, 0, 1);
            c = client4(s);
        }
        pthread_join(thread, NULL);
        close(c);
    }
    /* A blocked signal does not disturb; it comes when it is let in. */
    struct sigaction a = {.sa_handler = handler};
    sigset_t set;
    pthread_t thread;
    caught = 0;
    sigaction(SIGUSR1, &a, NULL);
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    pthread_create(&thread, NULL, blocked, NULL);
    gate_wait(ready);
    wait_blocked(acceptor);
    pthread_kill(thread, SIGUSR1);
    wait_blocked(acceptor);
    int c = client4(s);
    pthread_join(thread, NULL);
    close(c);
    return 0;
}
