// close() in one thread while another is blocked in a call on the same descriptor: the call goes on with the socket.
#include "probe.h"

static struct gate ready;
static pid_t tid;
static int fd;

static void *in_read(void *unused) {
    char text[8];
    (void)unused;
    tid = thread_id();
    gate_open(ready);
    T(read(fd, text, sizeof text));
    return NULL;
}

static void *in_accept(void *unused) {
    (void)unused;
    tid = thread_id();
    gate_open(ready);
    /* Not shown: connect may return before or after it. */
    int got = (int)MUST(accept(fd, NULL, NULL));
    send_all(got, "accepted", 8);
    close(got);
    return NULL;
}

int main(void) {
    pthread_t thread;
    int peer;
    ready = gate();
    connected_pair(&fd, &peer);
    pthread_create(&thread, NULL, in_read, NULL);
    gate_wait(ready);
    wait_blocked(tid);
    T(close(fd));
    show_poll("peer", peer);
    send_all(peer, "x", 1);
    pthread_join(thread, NULL);
    settle(peer, POLLIN);
    show_read("peer", peer);

    fd = listener4();
    struct sockaddr_in a = v4(port_of(fd));
    pthread_create(&thread, NULL, in_accept, NULL);
    gate_wait(ready);
    wait_blocked(tid);
    T(close(fd));
    int c = tcp4();
    T(connect(c, SA(a), sizeof a));
    pthread_join(thread, NULL);
    settle(c, POLLRDHUP);
    show_read("client", c);
    int e = tcp4();
    T(connect(e, SA(a), sizeof a));
    return 0;
}
