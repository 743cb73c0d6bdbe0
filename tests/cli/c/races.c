/* races: what may happen to a program while the fast path is set up in it. Every round is an execve(2), after which
 * nothing is patched. Usage: races MODE ROUNDS. Prints "done" after the last round.
 *   exec    one thread executes the next round while the leader makes its first calls
 *   patch   threads, and a process that shares the memory, make the same calls from the same sites
 *   exit    one thread ends the process, with status 7, while the leader makes its first calls; one round
 *   stop    a child of each round is stopped during its first calls, and continued at once: it must go on
 *   freeze  as stop, by the freezer of the next argument, a cgroup; meanwhile others' calls are answered
 *   held    another thread is in the middle of execve(2), for as long as the leader's first call has no answer:
 *           ROUNDS is then a program to execute, and the next argument its interpreter */
#define _GNU_SOURCE
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fanotify.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { CALLERS = 2, CALLS = 60, STACK = 64 << 10 };

static char *self, *mode;
static int rounds;
static int tcp;
static volatile int go;

static void fail(const char *what)
{
    perror(what);
    _exit(1);
}

/* A call of each of three sites, and whether its answer is right. */
static void calls(void)
{
    struct sockaddr_in name;
    int value = -1;
    socklen_t length = sizeof name;
    if (getsockname(tcp, (struct sockaddr *)&name, &length) != 0 || length != sizeof name || name.sin_family != AF_INET)
        fail("getsockname");
    length = sizeof value;
    if (getsockopt(tcp, SOL_SOCKET, SO_ERROR, &value, &length) != 0 || value != 0)
        fail("getsockopt");
    length = sizeof name;
    if (getpeername(tcp, (struct sockaddr *)&name, &length) != -1)
        fail("getpeername");
}

static void next_round(void)
{
    char left[16];
    snprintf(left, sizeof left, "%d", rounds - 1);
    execl(self, self, mode, left, (char *)NULL);
    fail("execl");
}

/* A time that differs from round to round, up to that of some set-ups. */
static void linger(void)
{
    unsigned seed = rounds * 2654435761u;
    for (volatile unsigned turn = 0; turn < seed >> 12; turn++)
        ;
}

static void *execute(void *unused)
{
    linger();
    next_round();
    return unused;
}

static void *finish(void *unused)
{
    srand(getpid());
    rounds = rand() % 1000;
    linger();
    _exit(7);
    return unused;
}

static void *call(void *unused)
{
    while (!go)
        ;
    for (int turn = 0; turn < CALLS; turn++)
        calls();
    return unused;
}

static int call_in_process(void *unused)
{
    call(unused);
    _exit(0);
}

static void *start(void *(*run)(void *))
{
    pthread_t *thread = malloc(sizeof *thread);
    if (pthread_create(thread, NULL, run, NULL) != 0)
        fail("pthread_create");
    return thread;
}

static void exec_round(void)
{
    start(execute);
    for (;;)
        calls();
}

static void patch_round(void)
{
    pthread_t *threads[CALLERS];
    char *stack = malloc(STACK);
    int status;
    for (int caller = 0; caller < CALLERS; caller++)
        threads[caller] = start(call);
    int process = clone(call_in_process, stack + STACK, CLONE_VM | SIGCHLD, NULL);
    go = 1;
    for (int caller = 0; caller < CALLERS; caller++)
        pthread_join(*threads[caller], NULL);
    if (waitpid(process, &status, 0) != process || status != 0)
        fail("waitpid");
    next_round();
}

static void stop_round(int round)
{
    int child = fork(), status;
    if (child == 0) {
        mode = "calls";
        rounds = 1;
        next_round();
    }
    usleep(300 + round * 7919 % 1200);
    kill(child, SIGSTOP);
    usleep(1);
    kill(child, SIGCONT);
    if (waitpid(child, &status, 0) != child || status != 0)
        fail("a child that was continued");
}

/* Writes to a file of the cgroup. */
static void write_to(const char *cgroup, const char *name, const char *text)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", cgroup, name);
    int file = open(path, O_WRONLY | O_CLOEXEC);
    if (file < 0 || write(file, text, strlen(text)) < 0)
        fail(path);
    close(file);
}

static void freeze_round(int round, const char *cgroup)
{
    int child = fork(), status;
    if (child == 0) {
        write_to(cgroup, "cgroup.procs", "0");
        mode = "calls";
        rounds = 1;
        next_round();
    }
    usleep(round * 7919 % 6000);
    write_to(cgroup, "cgroup.freeze", "1");
    /* Now and then for longer than the supervisor waits for a thread to stop. */
    usleep(round % 25 == 0 ? 150000 : 1000);
    /* One that is never answered in the program. */
    char info[256];
    socklen_t length = sizeof info;
    if (getsockopt(tcp, IPPROTO_TCP, TCP_INFO, info, &length) != 0)
        fail("getsockopt(TCP_INFO)");
    write_to(cgroup, "cgroup.freeze", "0");
    if (waitpid(child, &status, 0) != child || status != 0)
        fail("a child that was thawed");
}

static char *program;

static void *execute_program(void *unused)
{
    execl(program, program, (char *)NULL);
    fail("execl");
    return unused;
}

static void held(char *interpreter)
{
    int watch = fanotify_init(FAN_CLASS_CONTENT, O_RDONLY);
    if (watch < 0 || fanotify_mark(watch, FAN_MARK_ADD, FAN_OPEN_PERM, AT_FDCWD, interpreter) != 0)
        fail("fanotify");
    start(execute_program);
    struct fanotify_event_metadata event;
    if (read(watch, &event, sizeof event) != sizeof event)
        fail("an event of fanotify");
    calls();
    puts("answered");
    fflush(stdout);
    struct fanotify_response allowed = {.fd = event.fd, .response = FAN_ALLOW};
    if (write(watch, &allowed, sizeof allowed) != sizeof allowed)
        fail("an answer to fanotify");
    pause();
}

int main(int argc, char **argv)
{
    if (argc < 3)
        return 2;
    self = argv[0], mode = argv[1], rounds = atoi(argv[2]), program = argv[2];
    tcp = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (tcp < 0)
        fail("socket");
    if (strcmp(mode, "held") == 0)
        held(argv[3]);
    if (strcmp(mode, "exit") == 0)
        start(finish);
    if (strcmp(mode, "stop") == 0)
        for (int round = 0; round < rounds; round++)
            stop_round(round);
    else if (strcmp(mode, "freeze") == 0)
        for (int round = 1; round <= rounds; round++)
            freeze_round(round, argv[3]);
    else if (rounds > 0 && strcmp(mode, "exec") == 0)
        exec_round();
    else if (rounds > 0 && strcmp(mode, "patch") == 0)
        patch_round();
    else if (rounds > 0 && strcmp(mode, "calls") == 0) {
        calls();
        next_round();
    }
    while (strcmp(mode, "exit") == 0)
        calls();
    calls();
    if (strcmp(mode, "calls") != 0)
        puts("done");
    return 0;
}
