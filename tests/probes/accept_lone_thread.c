// A connection that is reset in the hands of a thread whose descriptors are not its process's main thread's: it has
// unshared them, or the main thread has ended.
#include "probe.h"

static int listener, unshared;

static char main_thread(void) {
    char text[256] = "", path[64];
    snprintf(path, sizeof path, "/proc/self/task/%d/stat", getpid());
    int fd = (int)MUST(open(path, O_RDONLY));
    MUST(read(fd, text, sizeof text - 1));
    close(fd);
    return strrchr(text, ')')[2];
}

static void *run(void *unused) {
    (void)unused;
    if (unshared)
        MUST(unshare(CLONE_FILES));
    while (!unshared && main_thread() != 'Z')
        usleep(1000);
    for (int i = 0; i < 3; i++) {
        int c = client4(listener), d = TFD(accept(listener, NULL, NULL));
        if (i == 2) {
            struct linger hard = {.l_onoff = 1, .l_linger = 0};
            MUST(setsockopt(c, SOL_SOCKET, SO_LINGER, &hard, sizeof hard));
        }
        close(c);
        settle(d, i == 2 ? POLLERR | POLLHUP : POLLIN | POLLRDHUP);
        show_read("server", d);
        close(d);
    }
    exit(0);
}

int main(void) {
    for (unshared = 0; unshared < 2; unshared++) {
        pid_t child = (pid_t)MUST(fork());
        if (child == 0) {
            pthread_t thread;
            listener = listener4();
            pthread_create(&thread, NULL, run, NULL);
            if (!unshared)
                pthread_exit(NULL);
            pthread_join(thread, NULL);
        }
        show_status(unshared ? "unshared" : "main thread ended", child);
    }
    return 0;
}
