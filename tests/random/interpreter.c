/* Runs a program of socket calls in two processes, one step after another, and prints what each call came to and
 * what poll and FIONREAD say of every socket after it.
 *
 *     interpreter PROGRAM [EXPECTED]
 *
 * A line of PROGRAM is `process operation slot arguments`; each process has a few slots that hold a descriptor. After
 * a step, what the network does is waited for: with EXPECTED (the transcript of an earlier run) until the sockets look
 * as they did there, or a deadline has passed; without, until they have not changed for a moment. So the wait depends
 * on what is to come and not on how quick it is.
 *
 * What differs for a known reason is left out here, each time with the heading of docs/limitations.md. */
#include "../probes/probe.h"

enum { PROCESSES = 2, SLOTS = 4, OBJECTS = 256, LINE = 512, CALM_MS = 4, END_MS = 30, PATIENCE_MS = 1500, ENOUGH = 30000 };

/* An open socket; copies made by dup share it. */
struct object {
    int copies, port, own_port, peer_port;
    int bound, listens, connected, failed, shut_read, sent;
    /* What poll says of it differs until it connects or listens again. */
    int spent;
    /* It was written to after the peer had closed. */
    int broken;
};

struct slot { int fd, object, last_port; };

/* Both processes see all of it; they take turns. */
static struct shared {
    struct object objects[OBJECTS];
    struct slot slots[PROCESSES][SLOTS];
    int made;
} *shared;

static int me;

static struct slot *slot(int process, int n) { return &shared->slots[process % PROCESSES][n % SLOTS]; }
static struct object *object_in(const struct slot *s) { return s->fd >= 0 ? &shared->objects[s->object] : NULL; }

static void fill_slot(struct slot *s, int fd, int object) {
    s->fd = fd;
    s->object = object;
    shared->objects[object].copies++;
}

static int new_object(void) { return shared->made++ % OBJECTS; }

/* Addresses as the kernel knows them now. */
static void refresh(struct slot *s) {
    struct sockaddr_in a;
    socklen_t len = sizeof a;
    struct object *o = object_in(s);
    if (getsockname(s->fd, SA(a), &len) == 0 && a.sin_port)
        s->last_port = o->own_port = ntohs(a.sin_port);
    len = sizeof a;
    if (getpeername(s->fd, SA(a), &len) == 0)
        o->peer_port = ntohs(a.sin_port);
}

/* The other end of a connection, if it is in a slot. */
static struct object *peer_of(const struct object *o) {
    for (int i = 0; i < OBJECTS; i++) {
        struct object *other = &shared->objects[i];
        if (other != o && other->copies && other->connected && other->own_port == o->peer_port &&
            other->peer_port == o->own_port)
            return other;
    }
    return NULL;
}

/* ---- operations: each writes what it came to ---- */

static char *out;

static void say(const char *what) { out += sprintf(out, "%s", what); }
static void say_result(long r) {
    if (r < 0)
        say(errno_name(errno));
    else
        out += sprintf(out, "%ld", r);
}

static void do_socket(struct slot *s) {
    if (s->fd >= 0)
        return say("skipped");
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    say(fd < 0 ? errno_name(errno) : "ok");
    if (fd < 0)
        return;
    int n = new_object();
    shared->objects[n] = (struct object){0};
    fill_slot(s, fd, n);
}

static void do_bind(struct slot *s, int port) {
    struct object *o = object_in(s);
    struct sockaddr_in a = v4((uint16_t)port);
    int r = bind(s->fd, SA(a), sizeof a);
    say_result(r);
    o->bound |= r == 0;
    refresh(s);
}

static void do_listen(struct slot *s) {
    struct object *o = object_in(s);
    /* "epoll after a failed non-blocking connect": copies keep the old socket. */
    if (o->spent && o->copies > 1)
        return say("skipped");
    int r = listen(s->fd, 16);
    say_result(r);
    o->listens |= r == 0;
    o->spent &= r != 0;
    refresh(s);
}

static void do_connect(struct slot *s, int port, int wait) {
    struct object *o = object_in(s);
    struct sockaddr_in a = v4((uint16_t)port);
    /* "Connecting to oneself, and to one another at once" */
    if (!port || port == o->own_port)
        return say("skipped");
    /* "epoll after a failed non-blocking connect": copies keep the old socket. */
    if ((o->failed || o->spent) && o->copies > 1)
        return say("skipped");
    int flags = fcntl(s->fd, F_GETFL);
    if (wait)
        fcntl(s->fd, F_SETFL, flags & ~O_NONBLOCK);
    errno = 0;
    int r = connect(s->fd, SA(a), sizeof a), e = errno;
    fcntl(s->fd, F_SETFL, flags);
    errno = e;
    say_result(r);
    if (r == 0 || e == EINPROGRESS || e == EISCONN) {
        o->connected = 1;
        o->spent = 0;
    } else if (e == ECONNREFUSED || e == ECONNRESET || e == ECONNABORTED || e == EPIPE) {
        /* "epoll after a failed non-blocking connect": the old socket stays hung up until the next attempt. */
        o->failed = 0;
        o->spent = 1;
    }
    if (e == EINPROGRESS)
        o->failed = 1; /* perhaps: corrected when it turns out to be connected */
    refresh(s);
}

static void do_accept(struct slot *s, struct slot *into) {
    if (into->fd >= 0)
        return say("skipped");
    int fd = accept4(s->fd, NULL, NULL, SOCK_NONBLOCK);
    say(fd < 0 ? errno_name(errno) : "ok");
    if (fd < 0)
        return;
    int n = new_object();
    shared->objects[n] = (struct object){.connected = 1};
    fill_slot(into, fd, n);
    refresh(into);
}

/* Is this socket one on which the data calls agree? */
static int data_agrees(struct slot *s) {
    struct object *o = object_in(s);
    refresh(s);
    /* "The errno of read and write on an unconnected socket" */
    if (!o->connected || !o->peer_port)
        return 0;
    /* "The errno of read and write after a failure": a pending error is taken by another call, with another errno. */
    return !(poll_now(s->fd, 0) & POLLERR);
}

static void do_send(struct slot *s, int size) {
    static char bytes[ENOUGH];
    struct object *o = object_in(s), *peer = peer_of(o);
    if (!data_agrees(s))
        return say("skipped");
    /* "Data that arrives after shutdown(SHUT_RD)" */
    if (peer && peer->shut_read)
        return say("skipped");
    /* How much an unread connection takes is a matter of buffers. */
    if (o->sent + size > ENOUGH)
        return say("skipped");
    for (int i = 0; i < size; i++)
        bytes[i] = (char)('a' + (o->sent + i) % 23);
    ssize_t n = send(s->fd, bytes, (size_t)size, MSG_NOSIGNAL | MSG_DONTWAIT);
    say_result(n);
    o->broken |= !peer;
    o->sent += n > 0 ? (int)n : 0;
}

static void do_recv(struct slot *s, int size, int flags) {
    static char bytes[ENOUGH];
    unsigned sum = 0;
    if (!data_agrees(s))
        return say("skipped");
    ssize_t n = recv(s->fd, bytes, (size_t)size, MSG_DONTWAIT | flags);
    say_result(n);
    for (ssize_t i = 0; i < n; i++)
        sum = sum * 31 + (unsigned char)bytes[i];
    if (n > 0)
        out += sprintf(out, " sum %08x", sum);
}

static void do_shutdown(struct slot *s, int how) {
    struct object *o = object_in(s);
    refresh(s);
    /* "shutdown before connect" */
    if (!o->listens && !o->peer_port)
        return say("skipped");
    int r = shutdown(s->fd, how % 3);
    say_result(r);
    o->shut_read |= how % 3 != SHUT_WR;
    if (o->listens && how % 3 != SHUT_WR && r == 0) {
        o->listens = 0;
        /* "Readiness after shutdown of what is not connected" */
        o->spent = 1;
    }
}

static void do_close(struct slot *s) {
    refresh(s);
    struct object *o = object_in(s);
    o->copies--;
    int fd = s->fd;
    s->fd = -1;
    say_result(close(fd));
}

static void do_dup(struct slot *s, struct slot *into) {
    if (into->fd >= 0)
        return say("skipped");
    int fd = dup(s->fd);
    say(fd < 0 ? errno_name(errno) : "ok");
    if (fd >= 0)
        fill_slot(into, fd, s->object);
    into->last_port = s->last_port;
}

static void say_name(const char *label, int (*call)(int, struct sockaddr *, socklen_t *), int fd) {
    struct sockaddr_in a;
    socklen_t len = sizeof a;
    char text[INET_ADDRSTRLEN];
    say(label);
    if (call(fd, SA(a), &len) < 0)
        return say(errno_name(errno));
    inet_ntop(AF_INET, &a.sin_addr, text, sizeof text);
    out += sprintf(out, "%s:%s", text, port_name(ntohs(a.sin_port)));
}

static void do_option(struct slot *s, const char *name) {
    struct linger hard = {.l_onoff = 1};
    int on = 1;
    if (!strcmp(name, "linger"))
        say_result(setsockopt(s->fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard));
    else
        say_result(setsockopt(s->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on));
}

static void operate(const char *op, int n, int a, int b, int c) {
    struct slot *s = slot(me, n);
    errno = 0;
    if (!strcmp(op, "socket"))
        return do_socket(s);
    if (s->fd < 0)
        return say("skipped");
    if (!strcmp(op, "bind"))
        return do_bind(s, 0);
    if (!strcmp(op, "rebind")) {
        struct slot *other = slot(a, b);
        /* "TIME_WAIT": only a port whose socket is open. */
        return other->fd >= 0 && other->last_port ? do_bind(s, other->last_port) : say("skipped");
    }
    if (!strcmp(op, "listen"))
        return do_listen(s);
    if (!strcmp(op, "connect"))
        return do_connect(s, slot(a, b)->last_port, c);
    if (!strcmp(op, "accept"))
        return do_accept(s, slot(me, a));
    if (!strcmp(op, "send"))
        return do_send(s, a);
    if (!strcmp(op, "recv"))
        return do_recv(s, a, 0);
    if (!strcmp(op, "peek"))
        return do_recv(s, a, MSG_PEEK);
    if (!strcmp(op, "shutdown"))
        return do_shutdown(s, a);
    if (!strcmp(op, "close"))
        return do_close(s);
    if (!strcmp(op, "dup"))
        return do_dup(s, slot(me, a));
    /* "The errno of read and write after a failure" */
    if (!strcmp(op, "error") && object_in(s)->broken)
        return say("skipped");
    if (!strcmp(op, "error"))
        return say(errno_name(so_error(s->fd)));
    if (!strcmp(op, "names")) {
        say_name("", getsockname, s->fd);
        return say_name(" ", getpeername, s->fd);
    }
    do_option(s, op);
}

/* ---- what the sockets look like ---- */

static void look(void) {
    for (int i = 0; i < SLOTS; i++) {
        struct slot *s = slot(me, i);
        struct object *o = object_in(s);
        int pending = -1;
        if (!o)
            continue;
        refresh(s);
        unsigned bits = poll_now(s->fd, 0);
        /* "The errno of read and write after a failure": EPIPE is no error of the pair. */
        if (o->broken)
            bits &= ~(unsigned)POLLERR;
        if (o->peer_port)
            o->failed = 0;
        if (o->spent)
            continue;
        out += sprintf(out, " %d.%d:%s", me, i, poll_names(bits));
        if (ioctl(s->fd, FIONREAD, &pending) == 0)
            out += sprintf(out, "(%d)", pending);
    }
}

static void serve(int in, int reply) {
    char line[LINE], answer[4 * LINE];
    for (ssize_t n; (n = read(in, line, sizeof line - 1)) > 0;) {
        char op[16];
        int slot_number = 0, a = 0, b = 0, c = 0, process;
        line[n] = 0;
        out = answer;
        *out = 0;
        if (line[0] == '?')
            look();
        else if (sscanf(line, "%d %15s %d %d %d %d", &process, op, &slot_number, &a, &b, &c) >= 3)
            operate(op, slot_number, a, b, c);
        *out++ = '\n';
        MUST(write(reply, answer, (size_t)(out - answer)));
    }
    _exit(0);
}

/* ---- the steps ---- */

static int to[PROCESSES], from[PROCESSES];

static void ask(int process, const char *line, char *answer, size_t size) {
    MUST(write(to[process], line, strlen(line)));
    ssize_t n = MUST(read(from[process], answer, size - 1));
    answer[n > 0 ? n - 1 : 0] = 0;
}

static void view(char *text, size_t size) {
    char part[4 * LINE];
    *text = 0;
    for (int i = 0; i < PROCESSES; i++) {
        ask(i, "?", part, sizeof part);
        strncat(text, part, size - strlen(text) - 1);
    }
}

static void pause_ms(long ms) {
    struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    nanosleep(&t, NULL);
}

/* Fills `text` with what is to be seen once the network has come to rest. */
static void rest(const char *expected, char *text, size_t size) {
    char before[8 * LINE] = "";
    int calm = 0;
    for (int ms = 0; ms < PATIENCE_MS; ms++) {
        view(text, size);
        if (expected && !strcmp(text, expected))
            return;
        calm = strcmp(text, before) ? 0 : calm + 1;
        if (!expected && calm >= CALM_MS)
            return;
        strcpy(before, text);
        pause_ms(1);
    }
}

/* The next line of an earlier transcript; NULL without one. */
static char *next_line(FILE *expected) {
    static char line[16 * LINE];
    if (!expected || !fgets(line, sizeof line, expected))
        return NULL;
    line[strcspn(line, "\n")] = 0;
    return line;
}

/* Prints a line. One that is not as expected is the last: what follows says nothing more. */
static void print(const char *line, const char *expected) {
    printf("%s\n", line);
    if (expected && strcmp(line, expected))
        exit(0);
}

/* What is to be seen after a step, printed once the network has come to rest. */
static void print_seen(const char *head, FILE *expected) {
    char seen[8 * LINE], line[9 * LINE];
    char *wanted = next_line(expected);
    rest(wanted && !strncmp(wanted, head, strlen(head)) ? wanted + strlen(head) : NULL, seen, sizeof seen);
    snprintf(line, sizeof line, "%s%s", head, seen);
    print(line, wanted);
}

static void start(void) {
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    for (int p = 0; p < PROCESSES; p++)
        for (int i = 0; i < SLOTS; i++)
            shared->slots[p][i].fd = -1;
    for (me = 0; me < PROCESSES; me++) {
        int there[2], back[2];
        MUST(pipe2(there, O_CLOEXEC));
        MUST(pipe2(back, O_CLOEXEC));
        if (fork() == 0) {
            for (int p = 0; p < me; p++) {
                close(to[p]);
                close(from[p]);
            }
            close(there[1]);
            serve(there[0], back[1]);
        }
        close(there[0]);
        close(back[1]);
        to[me] = there[1];
        from[me] = back[0];
    }
}

int main(int argc, char **argv) {
    char step[LINE], answer[4 * LINE], line[8 * LINE], head[32];
    FILE *program = argc > 1 ? fopen(argv[1], "r") : NULL, *expected = argc > 2 ? fopen(argv[2], "r") : NULL;
    if (!program || (argc > 2 && !expected))
        return 97;
    start();
    for (int n = 1; fgets(step, sizeof step, program); n++) {
        step[strcspn(step, "\n")] = 0;
        ask(step[0] - '0', step, answer, sizeof answer);
        snprintf(line, sizeof line, "%d %s -> %s", n, step, answer);
        print(line, next_line(expected));
        snprintf(head, sizeof head, "%d seen:", n);
        print_seen(head, expected);
    }
    pause_ms(END_MS);
    print_seen("at rest:", expected);
    return 0;
}
