/* A fresh socket in every state of its life, for the probes that make one call in each of them. They need
 * `net: silent`: an attempt to connect stays under way only where nobody answers. */
#ifndef STATES_H
#define STATES_H

#include "probe.h"

enum state {
    NEW, BOUND, CONNECTING, CONNECTED, ACCEPTED, DATA_WAITS, SHUT_WRITING, SHUT_READING, SHUT_BOTH, PEER_ENDED,
    BOTH_ENDED, PEER_CLOSED, PEER_CLOSED_DATA, RESET, RESET_TOLD, REFUSED, REFUSED_LATER, REFUSED_TOLD, LISTENING,
    ONE_WAITS, LISTENER_SHUT, STATES
};

static const char *const state_names[STATES] = {
    "new", "bound", "connecting", "connected", "accepted", "data waits", "shut for writing", "shut for reading",
    "shut both ways", "peer ended", "both ended", "peer closed", "peer closed, data waits", "reset",
    "reset, error taken", "refused", "refused, non-blocking", "refused, error taken", "listening", "one waits",
    "listener shut",
};

/* A socket, the other end of its connection if it has one, and what must stay open beside it. */
struct specimen { int fd, peer, holder; };

UNUSED static struct sockaddr_in nobody_answers(void) {
    struct sockaddr_in a = v4(4000);
    inet_pton(AF_INET, "10.9.9.9", &a.sin_addr);
    return a;
}

static void specimen_end(struct specimen *s, enum state state) {
    struct linger hard = {.l_onoff = 1};
    if (state == SHUT_WRITING || state == SHUT_BOTH || state == BOTH_ENDED)
        MUST(shutdown(s->fd, SHUT_WR));
    if (state == SHUT_READING || state == SHUT_BOTH)
        MUST(shutdown(s->fd, SHUT_RD));
    if (state == PEER_ENDED || state == BOTH_ENDED)
        MUST(shutdown(s->peer, SHUT_WR));
    if (state == RESET || state == RESET_TOLD)
        MUST(setsockopt(s->peer, SOL_SOCKET, SO_LINGER, &hard, sizeof hard));
    if (state == PEER_CLOSED || state == PEER_CLOSED_DATA || state == RESET || state == RESET_TOLD) {
        MUST(close(s->peer));
        s->peer = -1;
    }
}

/* Wait for what the other side has to say: FIN, reset, data. */
static void specimen_settle(struct specimen *s, enum state state) {
    if (state == DATA_WAITS)
        settle(s->fd, POLLIN);
    if (state == PEER_ENDED || state == PEER_CLOSED || state == PEER_CLOSED_DATA || state == BOTH_ENDED)
        settle(s->fd, POLLIN | POLLRDHUP);
    if (state == RESET || state == RESET_TOLD)
        settle(s->fd, POLLERR | POLLHUP);
    if (state == RESET_TOLD)
        MUST(so_error(s->fd));
    if (s->peer >= 0 && (state == SHUT_WRITING || state == SHUT_BOTH || state == BOTH_ENDED))
        settle(s->peer, POLLRDHUP);
}

static struct specimen specimen_connected(enum state state) {
    struct specimen s = {-1, -1, -1};
    if (state == ACCEPTED)
        connected_pair(&s.peer, &s.fd);
    else
        connected_pair(&s.fd, &s.peer);
    if (state == DATA_WAITS || state == PEER_CLOSED_DATA)
        send_all(s.peer, "data", 4);
    specimen_end(&s, state);
    specimen_settle(&s, state);
    return s;
}

static void specimen_refused(struct specimen *s, enum state state) {
    struct sockaddr_in closed = v4(closed_port(&s->holder));
    if (state != REFUSED)
        nonblocking(s->fd);
    connect(s->fd, SA(closed), sizeof closed);
    if (state != REFUSED) {
        settle(s->fd, POLLERR | POLLHUP);
        fcntl(s->fd, F_SETFL, fcntl(s->fd, F_GETFL) & ~O_NONBLOCK);
    }
    if (state == REFUSED_TOLD)
        MUST(so_error(s->fd));
}

static void specimen_listener(struct specimen *s, enum state state) {
    MUST(listen(s->fd, 5));
    if (state == ONE_WAITS) {
        s->peer = client4(s->fd);
        settle(s->fd, POLLIN);
    }
    if (state == LISTENER_SHUT)
        MUST(shutdown(s->fd, SHUT_RD));
}

/* A blocking socket in this state. */
UNUSED static struct specimen specimen(enum state state) {
    struct sockaddr_in any = v4(0), silent = nobody_answers();
    if (state >= CONNECTED && state <= RESET_TOLD)
        return specimen_connected(state);
    struct specimen s = {tcp4(), -1, -1};
    if (state == BOUND || state >= LISTENING)
        MUST(bind(s.fd, SA(any), sizeof any));
    if (state == CONNECTING) {
        int flags = fcntl(s.fd, F_GETFL);
        nonblocking(s.fd);
        connect(s.fd, SA(silent), sizeof silent);
        fcntl(s.fd, F_SETFL, flags);
    }
    if (state >= REFUSED && state <= REFUSED_TOLD)
        specimen_refused(&s, state);
    if (state >= LISTENING)
        specimen_listener(&s, state);
    return s;
}

UNUSED static void discard(struct specimen *s) {
    close(s->fd);
    close(s->peer);
    close(s->holder);
}

/* "ok", a number, or the name of an errno, for a table's cell. */
UNUSED static const char *outcome(long result) {
    static __thread char text[4][24];
    static __thread int next;
    char *out = text[next++ % 4];
    if (result < 0)
        snprintf(out, sizeof text[0], "%s", errno_name(errno));
    else if (result > 0)
        snprintf(out, sizeof text[0], "%ld", result);
    else
        snprintf(out, sizeof text[0], "ok");
    return out;
}

/* Not connected: what data calls say is a gap, see states_unconnected_io.c. */
UNUSED static int unconnected(enum state state) { return state == NEW || state == REFUSED || state == LISTENER_SHUT; }
UNUSED static int bound_or_listens(enum state state) { return state == BOUND || state == LISTENING || state == ONE_WAITS; }

/* One call, made on a fresh specimen in each state; `show` prints the row's cells. */
UNUSED static void table(void (*show)(struct specimen *, enum state)) {
    for (int i = 0; i < STATES; i++) {
        struct specimen s = specimen((enum state)i);
        printf("%-24s", state_names[i]);
        show(&s, (enum state)i);
        printf("\n");
        discard(&s);
    }
}

#endif
