// An epoll server that answers requests (see load.h) on any number of connections, and obeys lines on its standard
// input, each answered by a line:
//   stats    what became of the connections so far
//   pause    accept none until
//   resume
//   renew    closes the listener with all that wait in its queue, and listens again
//   end
#include "load.h"

enum { BUFFER = 64 << 10, EVENTS = 256, BACKLOG = 4096, COMMANDS = -1, LISTENER = -2 };

static struct connection {
    int fd;
    struct request request;
    uint32_t head;     // bytes of the request that are here
    uint32_t received; // bytes of its pattern
    uint32_t sent;     // bytes of the answer
    int answering;
} *connections;

static int epoll, listener, port, accepting = 1;
static long limit, opened, open_now, answered, ended, reset;

static void watch(int op, int fd, int tag, uint32_t events) {
    struct epoll_event event = { .events = events, .data.fd = tag };
    MUST(epoll_ctl(epoll, op, fd, &event));
}

static void start_listening(void) {
    struct sockaddr_in address = loopback(port);
    int on = 1;
    listener = MUST(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
    MUST(setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on));
    MUST(bind(listener, (struct sockaddr *)&address, sizeof address));
    MUST(listen(listener, BACKLOG));
    if (accepting)
        watch(EPOLL_CTL_ADD, listener, LISTENER, EPOLLIN);
}

static void drop(struct connection *connection, long *why) {
    MUST(close(connection->fd));
    *why += 1;
    open_now -= 1;
}

// Errors that the peer's end can cause.
static int was_reset(void) {
    if (errno != ECONNRESET && errno != EPIPE)
        die("a connection");
    return 1;
}

static void accept_all(void) {
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
        if (fd < 0 && errno == EAGAIN)
            return;
        // A connection that is gone already may be told of by accept(2) itself.
        if (fd < 0 && errno == ECONNABORTED)
            continue;
        MUST(fd);
        if (fd >= limit) {
            fprintf(stderr, "descriptor %d is beyond the limit\n", fd);
            exit(1);
        }
        connections[fd] = (struct connection){ .fd = fd };
        opened += 1;
        open_now += 1;
        watch(EPOLL_CTL_ADD, fd, fd, EPOLLIN);
    }
}

// Sends what is left of the answer. Returns whether the connection is still open.
static int answer(struct connection *connection) {
    static uint8_t buffer[BUFFER];
    struct request *request = &connection->request;
    while (connection->sent < request->length) {
        uint32_t left = request->length - connection->sent;
        uint32_t count = left < BUFFER ? left : BUFFER;
        fill(buffer, count, request->id, 1, connection->sent);
        ssize_t written = send(connection->fd, buffer, count, MSG_NOSIGNAL);
        if (written < 0 && errno == EAGAIN) {
            watch(EPOLL_CTL_MOD, connection->fd, connection->fd, EPOLLOUT);
            return 1;
        }
        if (written < 0) {
            was_reset();
            drop(connection, &reset);
            return 0;
        }
        connection->sent += (uint32_t)written;
    }
    answered += 1;
    if (request->flags & SERVER_CLOSES) {
        drop(connection, &ended);
        return 0;
    }
    if (connection->answering)
        watch(EPOLL_CTL_MOD, connection->fd, connection->fd, EPOLLIN);
    *connection = (struct connection){ .fd = connection->fd };
    return 1;
}

// Takes what has arrived; the client sends its next request only after the answer.
static int take(struct connection *connection, const uint8_t *bytes, uint32_t count) {
    struct request *request = &connection->request;
    while (count > 0 && connection->head < sizeof *request) {
        ((uint8_t *)request)[connection->head++] = *bytes++;
        count -= 1;
    }
    if (count > request->length - connection->received) {
        fprintf(stderr, "connection %u: more than was sent\n", request->id);
        exit(1);
    }
    check(bytes, count, request->id, 0, connection->received);
    connection->received += count;
    if (connection->head < sizeof *request || connection->received < request->length)
        return 1;
    return answer(connection);
}

static void serve(struct connection *connection, uint32_t events) {
    static uint8_t buffer[BUFFER];
    if (events & EPOLLOUT) {
        connection->answering = 1;
        if (!answer(connection))
            return;
    }
    for (;;) {
        ssize_t count = recv(connection->fd, buffer, sizeof buffer, 0);
        if (count < 0 && errno == EAGAIN)
            return;
        if (count < 0 && was_reset())
            return drop(connection, &reset);
        if (count == 0)
            return drop(connection, &ended);
        if (!take(connection, buffer, (uint32_t)count))
            return;
    }
}

static void obey(void) {
    char line[64] = "";
    ssize_t count = MUST(read(STDIN_FILENO, line, sizeof line - 1));
    if (count == 0 || !strcmp(line, "end\n"))
        exit(0);
    if (!strcmp(line, "stats\n")) {
        printf("opened %ld open %ld answered %ld ended %ld reset %ld\n", opened, open_now, answered, ended, reset);
        return;
    }
    if (!strcmp(line, "renew\n")) {
        MUST(close(listener));
        start_listening();
    } else {
        accepting = !strcmp(line, "resume\n");
        watch(accepting ? EPOLL_CTL_ADD : EPOLL_CTL_DEL, listener, LISTENER, EPOLLIN);
    }
    printf("done\n");
}

int main(int argc, char **argv) {
    struct epoll_event events[EVENTS];
    if (argc != 2)
        return 2;
    port = atoi(argv[1]);
    limit = sysconf(_SC_OPEN_MAX);
    connections = calloc((size_t)limit, sizeof *connections);
    setvbuf(stdout, NULL, _IOLBF, 0);
    epoll = MUST(epoll_create1(0));
    start_listening();
    watch(EPOLL_CTL_ADD, STDIN_FILENO, COMMANDS, EPOLLIN);
    printf("listening\n");
    for (;;) {
        int count = MUST(epoll_wait(epoll, events, EVENTS, -1));
        for (int i = 0; i < count; i++) {
            int tag = events[i].data.fd;
            if (tag == COMMANDS)
                obey();
            else if (tag == LISTENER)
                accept_all();
            else
                serve(&connections[tag], events[i].events);
        }
    }
}
