// Which socket() triples exist, and what their flags do.
#include "probe.h"

static void flags(const char *label, int fd) {
    int type = -1, domain = -1, protocol = -1;
    socklen_t len = sizeof type;
    getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len);
    len = sizeof domain;
    getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len);
    len = sizeof protocol;
    getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &len);
    printf("%s: nonblock %d cloexec %d domain %d type %d protocol %d\n", label, !!(fcntl(fd, F_GETFL) & O_NONBLOCK),
           !!(fcntl(fd, F_GETFD) & FD_CLOEXEC), domain, type, protocol);
    close(fd);
}

int main(void) {
    flags("4", TFD(socket(AF_INET, SOCK_STREAM, 0)));
    flags("4 tcp", TFD(socket(AF_INET, SOCK_STREAM, IPPROTO_TCP)));
    flags("4 nonblock", TFD(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, IPPROTO_TCP)));
    flags("4 cloexec", TFD(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)));
    flags("4 both", TFD(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)));
    flags("6", TFD(socket(AF_INET6, SOCK_STREAM, 0)));
    flags("6 both", TFD(socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP)));
    TFD(socket(AF_INET, SOCK_STREAM, IPPROTO_UDP));
    TFD(socket(AF_INET, SOCK_STREAM, 255));
    TFD(socket(AF_INET, SOCK_DGRAM, IPPROTO_TCP));
    TFD(socket(AF_INET, SOCK_SEQPACKET, 0));
    TFD(socket(AF_INET, 99, 0));
    TFD(socket(AF_INET, SOCK_STREAM | 0x100000, 0));
    TFD(socket(200, SOCK_STREAM, 0));
    TFD(socket(AF_INET, SOCK_STREAM, -1));
    return 0;
}
