// A blocking accept waits for the client and reports its address.
#include "probe.h"

static struct gate about_to_accept;
static pid_t acceptor;
static int listener;

static void *accept_one(void *unused) {
    (void)unused;
    struct sockaddr_storage a;
    socklen_t len = sizeof a;
    acceptor = thread_id();
    gate_open(about_to_accept);
    int fd = TFD(accept(listener, SA(a), &len));
    show_addr("accepted", &a, len);
    show_names("server", fd);
    return (void *)(long)fd;
}

int main(void) {
    pthread_t thread;
    void *result;
    listener = listener4();
    about_to_accept = gate();
    show_names("listener", listener);
    pthread_create(&thread, NULL, accept_one, NULL);
    gate_wait(about_to_accept);
    wait_blocked(acceptor);
    int client = client4(listener);
    pthread_join(thread, &result);
    int server = (int)(long)result;
    show_names("client", client);
    printf("blocking: %d\n", !(fcntl(server, F_GETFL) & O_NONBLOCK));
    /* The server speaks first, before any byte from the client. */
    send_all(server, "welcome", 7);
    settle(client, POLLIN);
    show_read("client", client);

    int second = client4(listener);
    int other = TFD(accept(listener, NULL, NULL));
    show_names("second", second);
    show_names("other", other);
    return 0;
}
