// As rebind_at_once, while the first of the network's threads is held up: it may run on one processor alone, where
// others are busy all the time. What it is late with must not fall upon the server that is bound next. Natively there
// is no such thread, and nothing is held up.
#include "probe.h"
#include <dirent.h>
#include <sched.h>
#include <sys/prctl.h>

/* LATE: milliseconds after which even a thread that is held up has had its turn. */
enum { PORTS = 8, ROUNDS = 12, LATE = 10, BUSY = 4 };
/* The processor that is busy. */
static cpu_set_t one;

/* The first thread of the parent, which is the supervisor, that carries connections; 0 if there is none. */
static pid_t network_thread(void) {
    char path[300], name[16];
    pid_t first = 0;
    snprintf(path, sizeof path, "/proc/%d/task", getppid());
    DIR *tasks = opendir(path);
    for (struct dirent *task; tasks && (task = readdir(tasks));) {
        snprintf(path, sizeof path, "/proc/%d/task/%s/comm", getppid(), task->d_name);
        FILE *comm = fopen(path, "r");
        if (comm && fgets(name, sizeof name, comm) && strcmp(name, "quic\n") == 0)
            first = first && first < atoi(task->d_name) ? first : atoi(task->d_name);
        if (comm)
            fclose(comm);
    }
    if (tasks)
        closedir(tasks);
    return first;
}

static void hold_up(pid_t thread) {
    struct sched_param priority = {0};
    /* SCHED_BATCH: when it is woken, it waits for its turn. */
    MUST(sched_setscheduler(thread, SCHED_BATCH, &priority));
    MUST(sched_setaffinity(thread, sizeof one, &one));
}

static pid_t busy(void) {
    pid_t child = (pid_t)MUST(fork());
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        MUST(sched_setaffinity(0, sizeof one, &one));
        for (volatile unsigned turns = 0;; turns++)
            ;
    }
    return child;
}

static long now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

/* Whether all clients of a server are accepted. They come until what is late should have been done. */
static int all_met(struct sockaddr_in *a) {
    int s = tcp4(), on = 1;
    MUST(setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on));
    MUST(bind(s, SA(*a), sizeof *a));
    MUST(listen(s, 5));
    a->sin_port = htons(port_of(s));
    for (long until = now() + LATE; now() < until;) {
        int c = client4(s);
        if (!(poll_now(s, SOON) & POLLIN))
            return 0;
        MUST(close((int)MUST(accept(s, NULL, NULL))));
        MUST(close(c));
    }
    MUST(close(s));
    return 1;
}

int main(void) {
    pid_t children[BUSY], thread = network_thread();
    cpu_set_t all;
    int met = 1;
    MUST(sched_getaffinity(0, sizeof all, &all));
    for (int cpu = CPU_SETSIZE; cpu-- > 0;)
        if (CPU_ISSET(cpu, &all)) {
            CPU_ZERO(&one);
            CPU_SET(cpu, &one);
        }
    for (int i = 0; i < BUSY; i++)
        children[i] = busy();
    if (thread)
        hold_up(thread);
    /* By the port it is decided which threads take part. */
    for (int i = 0; i < PORTS; i++) {
        struct sockaddr_in a = v4(0);
        for (int round = 0; met && round < ROUNDS; round++)
            met = all_met(&a);
    }
    for (int i = 0; i < BUSY; i++) {
        kill(children[i], SIGKILL);
        waitpid(children[i], NULL, 0);
    }
    printf("%s\n", met ? "all met" : "connected, but nobody to accept");
    return 0;
}
