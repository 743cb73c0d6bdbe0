// A thread with a descriptor table of its own: its sockets are its own, and so are its numbers.
#include "probe.h"
#include <sched.h>

static int s, shared;
static struct gate go, done;

static void *apart(void *unused) {
    (void)unused;
    gate_wait(go);
    T(unshare(CLONE_FILES));
    int mine = (int)MUST(socket(AF_INET, SOCK_STREAM, 0));
    MUST(dup2(mine, 200));
    struct sockaddr_in a = v4(port_of(s));
    T(connect(200, SA(a), sizeof a));
    show_names("thread's", 200);
    T(close(shared));
    send_all(200, "from the thread", 15);
    gate_open(done);
    gate_wait(go);
    return NULL;
}

int main(void) {
    pthread_t thread;
    int peer;
    s = listener4();
    connected_pair(&shared, &peer);
    go = gate();
    done = gate();
    pthread_create(&thread, NULL, apart, NULL);
    gate_open(go);
    gate_wait(done);
    struct sockaddr_in a;
    socklen_t len = sizeof a;
    T(getsockname(200, SA(a), &len));
    int d = TFD(accept(s, NULL, NULL));
    settle(d, POLLIN);
    show_read("server", d);
    /* Closed there, open here. */
    send_all(shared, "here", 4);
    settle(peer, POLLIN);
    show_read("peer", peer);
    gate_open(go);
    pthread_join(thread, NULL);
    settle(d, POLLRDHUP);
    show_read("server", d);
    return 0;
}
