/* idle ADDRESS PORT COUNT: makes a connection and says "first"; at a line on standard input makes COUNT more and says
 * "all"; holds them until its standard input ends. */
#include "bench.h"

int main(int argc, char **argv)
{
    need_arguments(argc, 3, "idle ADDRESS PORT COUNT");
    struct sockaddr_in peer = address_of(argv + 1);
    char line[64];
    setvbuf(stdout, NULL, _IOLBF, 0);
    connect_to(tcp_socket(), &peer);
    puts("first");
    if (!fgets(line, sizeof line, stdin))
        return 0;
    for (int index = atoi(argv[3]); index > 0; index--)
        connect_to(tcp_socket(), &peer);
    puts("all");
    while (fgets(line, sizeof line, stdin)) {
    }
    return 0;
}
