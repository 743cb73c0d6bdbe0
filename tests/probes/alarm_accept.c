// alarm() interrupts accept, and an ignored signal does not.
#include "probe.h"

static void handler(int signal) { (void)signal; }

int main(void) {
    int s = listener4();
    struct sigaction a = {.sa_handler = handler};
    struct itimerval soon = {.it_value = {.tv_usec = 100000}};
    sigaction(SIGALRM, &a, NULL);
    setitimer(ITIMER_REAL, &soon, NULL);
    T(accept(s, NULL, NULL));
    alarm(1);
    T(accept(s, NULL, NULL));

    /* SIGCHLD, ignored by default, wakes nobody. */
    pid_t child = fork();
    if (child == 0)
        _exit(0);
    pid_t client = fork();
    if (client == 0) {
        waitpid(child, NULL, 0);
        poll(NULL, 0, QUIET);
        close(client4(s));
        _exit(0);
    }
    TFD(accept(s, NULL, NULL));
    show_status("child", child);
    show_status("client", client);

    /* The default action ends the program inside accept. */
    child = fork();
    if (child == 0) {
        signal(SIGALRM, SIG_DFL);
        setitimer(ITIMER_REAL, &soon, NULL);
        accept(s, NULL, NULL);
        _exit(1);
    }
    show_status("alarmed", child);
    child = fork();
    if (child == 0) {
        accept(s, NULL, NULL);
        _exit(1);
    }
    wait_blocked(child);
    kill(child, SIGKILL);
    show_status("killed", child);
    int c = client4(s);
    TFD(accept(s, NULL, NULL));
    close(c);
    return 0;
}
