// splice from a pipe to a connection and from the connection to a pipe.
#include "probe.h"

int main(void) {
    int c, d, in[2], out[2];
    char text[64] = "";
    connected_pair(&c, &d);
    MUST(pipe(in));
    MUST(pipe(out));
    send_all(in[1], "through the pipes", 17);
    T(splice(in[0], NULL, c, NULL, 17, SPLICE_F_MOVE));
    settle_bytes(d, 17);
    T(splice(d, NULL, out[1], NULL, 17, SPLICE_F_MOVE));
    T(read(out[0], text, sizeof text));
    printf("%s\n", text);
    nonblocking(d);
    T(splice(d, NULL, out[1], NULL, 17, SPLICE_F_MOVE));
    T(splice(c, NULL, d, NULL, 17, 0));
    T(shutdown(c, SHUT_WR));
    settle(d, POLLIN | POLLRDHUP);
    T(splice(d, NULL, out[1], NULL, 17, 0));
    return 0;
}
