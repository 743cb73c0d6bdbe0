// A program that was executed accepts what waits on a listener that it has inherited, and executes another with what it has
// accepted. Whoever has a connection sees its reset.
#include "probe.h"

enum { WAITING = 6, LATER = 3 };

static void reset(int fd) {
    struct linger at_once = {.l_onoff = 1};
    MUST(setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once));
    close(fd);
}

static void execute(const char *role, int a, int b) {
    char first[16], second[16];
    snprintf(first, sizeof first, "%d", a);
    snprintf(second, sizeof second, "%d", b);
    fflush(stdout);
    MUST(execl("/proc/self/exe", "probe", role, first, second, (char *)NULL));
}

/* Every other one is asked for nothing before it is over. */
static int take(int s, int number) {
    struct sockaddr_in from, peer;
    socklen_t len = sizeof from, peer_len = sizeof peer;
    int d = (int)MUST(accept(s, SA(from), &len));
    if (number % 2) {
        MUST(getpeername(d, SA(peer), &peer_len));
        printf("accepted: %s\n", memcmp(&from, &peer, sizeof peer) ? "another's address" : "its peer's address");
    }
    return d;
}

static void tell(int control) {
    char byte = 'x';
    MUST(write(control, &byte, 1));
    MUST(read(control, &byte, 1));
}

static void serve(int s, int control) {
    int accepted[WAITING];
    for (int i = 0; i < WAITING; i++)
        accepted[i] = take(s, i);
    tell(control);
    for (int i = 0; i < WAITING; i++) {
        settle(accepted[i], POLLIN);
        show_read("waited", accepted[i]);
    }
    tell(control);
    int later[LATER];
    for (int i = 0; i < LATER; i++)
        later[i] = take(s, 0);
    close(s);
    tell(control);
    for (int i = 0; i < LATER; i += 2) {
        settle(later[i], POLLIN);
        show_read("later", later[i]);
    }
    execute("end", later[1], control);
}

static void end(int connection, int control) {
    tell(control);
    settle(connection, POLLIN);
    show_read("executed", connection);
    show_poll("executed", connection);
    exit(0);
}

static void wait_for(int control) {
    char byte;
    MUST(read(control, &byte, 1));
}

int main(int argc, char **argv) {
    if (argc > 3)
        (strcmp(argv[1], "end") ? serve : end)(atoi(argv[2]), atoi(argv[3]));
    int s = listener4(), control[2], clients[WAITING], later[LATER];
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, control));
    for (int i = 0; i < WAITING; i++) {
        clients[i] = client4(s);
        MUST(fcntl(clients[i], F_SETFD, FD_CLOEXEC));
    }
    settle(s, POLLIN);
    pid_t child = (pid_t)MUST(fork());
    if (child == 0) {
        close(control[0]);
        for (int i = 0; i < WAITING; i++)
            close(clients[i]);
        execute("serve", s, control[1]);
    }
    close(control[1]);
    wait_for(control[0]);
    for (int i = 0; i < WAITING; i++)
        if (i % 2)
            send_all(clients[i], "data", 4);
        else
            reset(clients[i]);
    MUST(write(control[0], "x", 1));
    wait_for(control[0]);
    for (int i = 0; i < LATER; i++)
        later[i] = client4(s);
    close(s);
    MUST(write(control[0], "x", 1));
    wait_for(control[0]);
    reset(later[0]);
    reset(later[2]);
    MUST(write(control[0], "x", 1));
    wait_for(control[0]);
    reset(later[1]);
    MUST(write(control[0], "x", 1));
    int status;
    MUST(waitpid(child, &status, 0));
    return status;
}
