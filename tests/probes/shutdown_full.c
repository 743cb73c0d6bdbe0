// A sender whose buffer is full shuts down for writing: it is writable, to say EPIPE, though the peer reads nothing. All that
// it wrote arrives; or it reads a reset.
#include "probe.h"

static unsigned char block[65536];

/* Fills the socket with bytes that count up. Returns how many there are. */
static long fill(int fd) {
    struct pollfd p = {.fd = fd, .events = POLLOUT};
    long written = 0, more;
    nonblocking(fd);
    while (poll(&p, 1, 500) == 1)
        do {
            for (size_t i = 0; i < sizeof block; i++)
                block[i] = (unsigned char)((written + (long)i) % 251);
            if ((more = write(fd, block, sizeof block)) > 0)
                written += more;
        } while (more > 0);
    return written;
}

/* Reads to the end. Returns how many bytes there were, or where one was wrong. */
static long drain(int fd) {
    long got = 0, more;
    while ((more = read(fd, block, sizeof block)) > 0)
        for (long i = 0; i < more; i++, got++)
            if (block[i] != got % 251)
                return -got;
    return more < 0 ? -1 : got;
}

static void *shut_down_later(void *fd) {
    usleep(100000);
    MUST(shutdown(*(int *)fd, SHUT_WR));
    return NULL;
}

static void all_arrives(int how) {
    int c, d;
    char answer;
    connected_pair(&c, &d);
    long written = fill(c);
    show_poll("full", c);
    T(shutdown(c, how));
    show_poll("shut down", c);
    T(send(c, block, 1, MSG_NOSIGNAL));
    T(shutdown(c, how));
    printf("all of it: %d\n", drain(d) == written);
    if (how == SHUT_WR) {
        T(write(d, "answer", 1));
        settle(c, POLLIN);
        T(read(c, &answer, 1));
    }
    close(c);
    close(d);
}

int main(void) {
    int c, d;
    all_arrives(SHUT_WR);
    all_arrives(SHUT_RDWR);

    connected_pair(&c, &d);
    long written = fill(c);
    pthread_t other;
    MUST(pthread_create(&other, NULL, shut_down_later, &c));
    struct pollfd p = {.fd = c, .events = POLLOUT};
    T(poll(&p, 1, SOON));
    MUST(pthread_join(other, NULL));
    T(close(c));
    printf("all of it after close: %d\n", drain(d) == written);
    close(d);

    connected_pair(&c, &d);
    fill(c);
    T(shutdown(c, SHUT_WR));
    T(close(d));
    settle(c, POLLERR | POLLHUP);
    show_poll("reset", c);
    show_read("reset", c);
    show_read("reset", c);
    return 0;
}
