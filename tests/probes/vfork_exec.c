// vfork and posix_spawn with connections moved to chosen numbers.
#include "probe.h"
#include <spawn.h>

extern char **environ;

static char *const words[] = {"sh", "-c", "read word; echo \"$word again\"; echo \"more\" >&4", NULL};

static void talk(int c, int e, pid_t child) {
    char text[32] = "";
    send_all(c, "word\n", 5);
    size_t n = read_all(c, text, sizeof text);
    printf("%zu %s", n, text);
    memset(text, 0, sizeof text);
    n = read_all(e, text, sizeof text);
    printf("%zu %s", n, text);
    show_status("child", child);
}

int main(void) {
    int c, d, e, f;
    connected_pair(&c, &d);
    connected_pair(&e, &f);
    fflush(stdout);
    pid_t child = vfork();
    if (child == 0) {
        dup2(d, 0);
        dup2(d, 1);
        dup2(f, 44);
        dup2(44, 4);
        for (int fd = 5; fd < 64; fd++)
            close(fd);
        execv("/bin/sh", words);
        _exit(99);
    }
    close(d);
    close(f);
    talk(c, e, child);

    connected_pair(&c, &d);
    connected_pair(&e, &f);
    MUST(fcntl(c, F_SETFD, FD_CLOEXEC));
    MUST(fcntl(e, F_SETFD, FD_CLOEXEC));
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, d, 0);
    posix_spawn_file_actions_adddup2(&actions, d, 1);
    posix_spawn_file_actions_adddup2(&actions, f, 44);
    posix_spawn_file_actions_adddup2(&actions, 44, 4);
    posix_spawn_file_actions_addclose(&actions, 44);
    printf("spawn %d\n", posix_spawn(&child, "/bin/sh", &actions, NULL, words, environ));
    close(d);
    close(f);
    close(4 == d || 4 == f ? -1 : 63);
    talk(c, e, child);
    return 0;
}
