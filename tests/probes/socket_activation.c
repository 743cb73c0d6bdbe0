// Socket activation: the activator binds and listens, the server finds its listeners at descriptor 3 and on.
#include "probe.h"
#include <sys/stat.h>

/* What sd_is_socket and sd_is_socket_inet look at. */
static void inspect(int fd) {
    struct stat st;
    int type = -1, listening = -1;
    socklen_t len = sizeof type;
    MUST(fstat(fd, &st));
    MUST(getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len));
    len = sizeof listening;
    MUST(getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &len));
    printf("%d: socket %d, stream %d, listens %d\n", fd, S_ISSOCK(st.st_mode), type == SOCK_STREAM, listening);
    show_names("activated", fd);
}

static int server(void) {
    int count = atoi(getenv("LISTEN_FDS"));
    printf("descriptors: %d, for us: %d\n", count, atoi(getenv("LISTEN_PID")) == getpid());
    for (int fd = 3; fd < 3 + count; fd++) {
        inspect(fd);
        int d = TFD(accept(fd, NULL, NULL));
        char text[16] = "";
        read_all(d, text, 5);
        printf("got %s\n", text);
        send_all(d, "served", 6);
        close(d);
    }
    return 7;
}

int main(int argc, char **argv) {
    (void)argc;
    if (getenv("LISTEN_FDS"))
        return server();
    int s = listener4(), six = tcp6();
    struct sockaddr_in6 any = {.sin6_family = AF_INET6};
    MUST(bind(six, SA(any), sizeof any));
    MUST(listen(six, 5));
    struct sockaddr_in6 b = v6(port_of(six));
    int c = client4(s), e = tcp6();
    MUST(connect(e, SA(b), sizeof b));
    send_all(c, "first", 5);
    send_all(e, "other", 5);
    pid_t child = fork();
    if (child == 0) {
        char pid[16];
        snprintf(pid, sizeof pid, "%d", getpid());
        setenv("LISTEN_FDS", "2", 1);
        setenv("LISTEN_PID", pid, 1);
        MUST(dup2(s, 50));
        MUST(dup2(six, 51));
        MUST(dup2(50, 3));
        MUST(dup2(51, 4));
        for (int fd = 5; fd < 64; fd++)
            close(fd);
        execl("/proc/self/exe", argv[0], NULL);
        _exit(99);
    }
    close(s);
    close(six);
    show_status("server", child);
    settle(c, POLLRDHUP);
    settle(e, POLLRDHUP);
    show_read("client", c);
    show_read("client 6", e);
    return 0;
}
