// A port that TCP has given up is UDP's at once: a program may use one after the other.
// net: silent
#include "probe.h"

int main(void) {
    int failed = 0;
    for (int i = 0; i < 100; i++) {
        int tcp = MUST(socket(AF_INET, SOCK_STREAM, 0));
        struct sockaddr_in address = v4(0);
        MUST(bind(tcp, (struct sockaddr *)&address, sizeof address));
        address = v4(port_of(tcp));
        if (i % 2)
            MUST(listen(tcp, 1));
        MUST(close(tcp));
        int udp = MUST(socket(AF_INET, SOCK_DGRAM, 0));
        if (bind(udp, (struct sockaddr *)&address, sizeof address) < 0)
            failed++;
        MUST(close(udp));
    }
    printf("failed: %d\n", failed);
    return 0;
}
