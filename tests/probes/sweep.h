/* The options of a level: default, bad lengths, set and get, on sockets in several states. */
#ifndef SWEEP_H
#define SWEEP_H

#include "probe.h"

/* The options of a level, up to -1, and those among them whose values no two runs share. */
struct sweep { int level; const int *names, *changing; };

static int listed(const int *list, int name) {
    for (; list && *list >= 0; list++)
        if (*list == name)
            return 1;
    return 0;
}

static const char *sweep_errno(int r) { return r < 0 ? errno_name(errno) : "ok"; }

static void sweep_get(const struct sweep *w, int fd, int name, const char *label) {
    unsigned char value[256];
    socklen_t len = sizeof value;
    int number = 0;
    memset(value, 0xaa, sizeof value);
    int r = getsockopt(fd, w->level, name, value, &len);
    printf(", %s %s", label, sweep_errno(r));
    if (r < 0 || listed(w->changing, name))
        return;
    memcpy(&number, value, len < sizeof number ? len : sizeof number);
    printf(" %d (%u)", number, len);
}

static void sweep_option(const struct sweep *w, int fd, int name) {
    unsigned char text[4] = {1};
    int one = 1, minus = -1, zero = 0;
    socklen_t len = 2;
    printf("%d", name);
    sweep_get(w, fd, name, "default");
    printf(", short get %s", sweep_errno(getsockopt(fd, w->level, name, text, &len)));
    len = (socklen_t)-3;
    printf(", negative get %s", sweep_errno(getsockopt(fd, w->level, name, text, &len)));
    printf(", empty set %s", sweep_errno(setsockopt(fd, w->level, name, &one, 0)));
    printf(", EFAULT %s", sweep_errno(setsockopt(fd, w->level, name, (void *)8, sizeof one)));
    printf(", set 1 %s", sweep_errno(setsockopt(fd, w->level, name, &one, sizeof one)));
    sweep_get(w, fd, name, "is");
    printf(", set -1 %s", sweep_errno(setsockopt(fd, w->level, name, &minus, sizeof minus)));
    sweep_get(w, fd, name, "is");
    printf(", set 0 %s", sweep_errno(setsockopt(fd, w->level, name, &zero, sizeof zero)));
    sweep_get(w, fd, name, "is");
    printf("\n");
}

/* A socket of its own for each option: some of them change what others say. */
static void sweep(const struct sweep *w, const char *label, int (*make)(void)) {
    printf("-- %s\n", label);
    for (const int *name = w->names; *name >= 0; name++) {
        int fd = make();
        sweep_option(w, fd, *name);
        close(fd);
    }
}

static int sweep_listener = -1;
UNUSED static int sweep_connected(void) {
    if (sweep_listener < 0)
        sweep_listener = listener4();
    int c = client4(sweep_listener);
    close((int)MUST(accept(sweep_listener, NULL, NULL)));
    settle(c, POLLRDHUP);
    return c;
}

#endif
