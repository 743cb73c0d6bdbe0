// A server started by another with its connection as standard input and output, as inetd does.
#include "probe.h"

int main(void) {
    int c, d;
    connected_pair(&c, &d);
    pid_t child = fork();
    if (child == 0) {
        dup2(d, 0);
        dup2(d, 1);
        for (int fd = 3; fd < 64; fd++)
            close(fd);
        execl("/bin/sh", "sh", "-c", "read word; echo \"got $word\"; exec tr a-z A-Z", NULL);
        _exit(99);
    }
    close(d);
    char text[64] = "";
    send_all(c, "word\n", 5);
    send_all(c, "and more\n", 9);
    T(shutdown(c, SHUT_WR));
    size_t n = read_all(c, text, sizeof text);
    printf("%zu \"%.*s\"\n", n, (int)n, text);
    show_status("server", child);
    return 0;
}
