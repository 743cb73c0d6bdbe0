/* waits: blocks in accept(2) on a socket that quicwrap leaves alone, after calls that have patched the site. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>

__attribute__((noinline)) int wait_here(int listener)
{
    int taken = accept(listener, NULL, NULL);
    __asm__ volatile("");
    return taken + 1;
}

int main(void)
{
    int listener = socket(AF_UNIX, SOCK_STREAM, 0);
    struct sockaddr_un own = {.sun_family = AF_UNIX};
    if (bind(listener, (struct sockaddr *)&own, sizeof own.sun_family) != 0 || listen(listener, 5) != 0)
        return 1;
    fcntl(listener, F_SETFL, O_NONBLOCK);
    for (int round = 0; round < 3; round++)
        accept(listener, NULL, NULL);
    fcntl(listener, F_SETFL, 0);
    puts("waits");
    fflush(stdout);
    return wait_here(listener);
}
