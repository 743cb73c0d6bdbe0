// The client of server.c, and a maker of sockets that come to nothing. Obeys lines on its standard input, each
// answered by a line "done N":
//   open N           N connections more, at most 256 under way at a time
//   exchange BYTES   a request of so many bytes, and its answer, on every open connection, all at once
//   send BYTES       the request alone
//   gone             waits until each connection has ended, and says how many with a reset
//   close            closes them;  close mixed  every second one with a reset
//   short N BYTES    N connections one after another;  short N BYTES server  the server closes first
//   refused N PORT   N connections that are refused
//   unused N, bound N, listening N     sockets that are closed at once, bound or listening before
#include "load.h"

#include <sys/time.h>

enum { BUFFER = 64 << 10, EVENTS = 256, UNDER_WAY = 256, PORT_TRIES = 5000, PORT_PAUSE_US = 1000 };

static struct connection {
    int fd;
    uint32_t id, sent, received;
} *connections;

static int epoll, port;
static long count, limit;
static uint32_t next_id;

static void watch(int op, int fd, long tag, uint32_t events) {
    struct epoll_event event = { .events = events, .data.u64 = (uint64_t)tag };
    MUST(epoll_ctl(epoll, op, fd, &event));
}

// TCP keeps the port of an ended connection for a while (TIME_WAIT), so thousands one after another can use up all.
static int begin(int fd) {
    struct sockaddr_in server = loopback(port);
    int result = -1;
    for (int i = 0; i < PORT_TRIES; i++) {
        result = connect(fd, (struct sockaddr *)&server, sizeof server);
        if (result == 0 || errno != EADDRNOTAVAIL)
            return result;
        usleep(PORT_PAUSE_US);
    }
    return result;
}

static void established(struct connection *connection) {
    int error = 0;
    socklen_t size = sizeof error;
    MUST(getsockopt(connection->fd, SOL_SOCKET, SO_ERROR, &error, &size));
    if ((errno = error) != 0)
        die("connect");
    watch(EPOLL_CTL_DEL, connection->fd, 0, 0);
}

static long open_many(long wanted) {
    struct epoll_event events[EVENTS];
    long end = count + wanted, under_way = 0;
    while (count < end || under_way > 0) {
        while (count < end && under_way < UNDER_WAY) {
            int fd = MUST(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
            connections[count] = (struct connection){ .fd = fd, .id = next_id++ };
            if (begin(fd) < 0 && errno != EINPROGRESS)
                die("connect");
            watch(EPOLL_CTL_ADD, fd, count++, EPOLLOUT);
            under_way += 1;
        }
        int ready = MUST(epoll_wait(epoll, events, EVENTS, -1));
        for (int i = 0; i < ready; i++)
            established(&connections[events[i].data.u64]);
        under_way -= ready;
    }
    return wanted;
}

// One request with its head, as one piece of memory, from `offset` on.
static uint32_t request_bytes(uint8_t *buffer, uint32_t id, uint32_t length, uint32_t flags, uint32_t offset) {
    struct request request = { .id = id, .length = length, .flags = flags };
    uint32_t head = 0;
    if (offset < sizeof request) {
        head = (uint32_t)sizeof request - offset;
        memcpy(buffer, (uint8_t *)&request + offset, head);
        offset = sizeof request;
    }
    uint32_t left = length - (offset - (uint32_t)sizeof request);
    uint32_t room = BUFFER - head;
    uint32_t body = left < room ? left : room;
    fill(buffer + head, body, id, 0, offset - (uint32_t)sizeof request);
    return head + body;
}

static void send_on(struct connection *connection, uint32_t length) {
    static uint8_t buffer[BUFFER];
    while (connection->sent < length + sizeof(struct request)) {
        uint32_t bytes = request_bytes(buffer, connection->id, length, 0, connection->sent);
        ssize_t written = send(connection->fd, buffer, bytes, MSG_NOSIGNAL);
        if (written < 0 && errno == EAGAIN)
            return;
        connection->sent += (uint32_t)MUST(written);
    }
}

static void receive_on(struct connection *connection, uint32_t length) {
    static uint8_t buffer[BUFFER];
    while (connection->received < length) {
        ssize_t bytes = recv(connection->fd, buffer, sizeof buffer, 0);
        if (bytes < 0 && errno == EAGAIN)
            return;
        if (MUST(bytes) == 0 || bytes > length - connection->received) {
            fprintf(stderr, "connection %u: ended after %u bytes, or too many\n", connection->id, connection->received);
            exit(1);
        }
        check(buffer, (uint32_t)bytes, connection->id, 1, connection->received);
        connection->received += (uint32_t)bytes;
    }
}

static long exchange(uint32_t length, int answers) {
    struct epoll_event events[EVENTS];
    uint32_t expected = answers ? length : 0;
    long busy = count;
    for (long i = 0; i < count; i++) {
        connections[i].sent = connections[i].received = 0;
        watch(EPOLL_CTL_ADD, connections[i].fd, i, EPOLLIN | EPOLLOUT);
    }
    while (busy > 0) {
        int ready = MUST(epoll_wait(epoll, events, EVENTS, -1));
        for (int i = 0; i < ready; i++) {
            long index = (long)events[i].data.u64;
            struct connection *connection = &connections[index];
            send_on(connection, length);
            receive_on(connection, expected);
            if (connection->sent < length + sizeof(struct request))
                continue;
            if (connection->received < expected) {
                watch(EPOLL_CTL_MOD, connection->fd, index, EPOLLIN);
                continue;
            }
            watch(EPOLL_CTL_DEL, connection->fd, 0, 0);
            busy -= 1;
        }
    }
    return count;
}

static long gone(void) {
    long resets = 0;
    for (long i = 0; i < count; i++) {
        uint8_t byte;
        MUST(fcntl(connections[i].fd, F_SETFL, 0));
        ssize_t result = recv(connections[i].fd, &byte, 1, 0);
        if (result > 0) {
            fprintf(stderr, "connection %u: data that nobody sent\n", connections[i].id);
            exit(1);
        }
        resets += result < 0 && errno == ECONNRESET;
    }
    return resets;
}

static long close_all(int mixed) {
    struct linger reset = { .l_onoff = 1 };
    long closed = count;
    for (; count > 0; count--) {
        int fd = connections[count - 1].fd;
        if (mixed && count % 2)
            MUST(setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset));
        MUST(close(fd));
    }
    return closed;
}

static void short_one(uint32_t length, int server_closes) {
    static uint8_t buffer[BUFFER];
    struct connection connection = { .fd = MUST(socket(AF_INET, SOCK_STREAM, 0)), .id = next_id++ };
    MUST(begin(connection.fd));
    uint32_t flags = server_closes ? SERVER_CLOSES : 0;
    uint32_t bytes = request_bytes(buffer, connection.id, length, flags, 0);
    if (MUST(send(connection.fd, buffer, bytes, MSG_NOSIGNAL)) != bytes)
        die("send");
    receive_on(&connection, length);
    if (server_closes && MUST(recv(connection.fd, buffer, 1, 0)) != 0)
        die("no end of file");
    MUST(close(connection.fd));
}

static void refused_one(void) {
    int fd = MUST(socket(AF_INET, SOCK_STREAM, 0));
    if (begin(fd) == 0 || errno != ECONNREFUSED)
        die("not refused");
    MUST(close(fd));
}

static void unused_one(int bound, int listening) {
    struct sockaddr_in any = loopback(0);
    int fd = MUST(socket(AF_INET, SOCK_STREAM, 0));
    if (bound)
        MUST(bind(fd, (struct sockaddr *)&any, sizeof any));
    if (listening)
        MUST(listen(fd, 16));
    MUST(close(fd));
}

static long obey(const char *line) {
    char word[16] = "", other[16] = "";
    long number = 0, second = 0;
    if (sscanf(line, "open %ld", &number) == 1 && count + number <= limit)
        return open_many(number);
    if (sscanf(line, "exchange %ld", &number) == 1)
        return exchange((uint32_t)number, 1);
    if (sscanf(line, "send %ld", &number) == 1)
        return exchange((uint32_t)number, 0);
    if (sscanf(line, "short %ld %ld %15s", &number, &second, other) >= 2 && second + sizeof(struct request) <= BUFFER) {
        for (long i = 0; i < number; i++)
            short_one((uint32_t)second, !strcmp(other, "server"));
        return number;
    }
    if (sscanf(line, "refused %ld %ld", &number, &second) == 2) {
        int server = port;
        port = (int)second;
        for (long i = 0; i < number; i++)
            refused_one();
        port = server;
        return number;
    }
    if (!strcmp(line, "gone\n"))
        return gone();
    if (!strncmp(line, "close", 5))
        return close_all(!strcmp(line, "close mixed\n"));
    if (sscanf(line, "%15s %ld", word, &number) == 2) {
        int listening = !strcmp(word, "listening"), bound = listening || !strcmp(word, "bound");
        for (long i = 0; i < number; i++)
            unused_one(bound, listening);
        return number;
    }
    fprintf(stderr, "what is %s", line);
    exit(2);
}

int main(int argc, char **argv) {
    char line[64];
    if (argc != 2)
        return 2;
    port = atoi(argv[1]);
    limit = sysconf(_SC_OPEN_MAX);
    connections = calloc((size_t)limit, sizeof *connections);
    epoll = MUST(epoll_create1(0));
    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("ready\n");
    while (fgets(line, sizeof line, stdin))
        printf("done %ld\n", obey(line));
    return 0;
}
