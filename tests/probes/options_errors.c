// get- and setsockopt: bad descriptors, lengths, pointers, unknown levels and names; short and long buffers.
#include "probe.h"

int main(void) {
    int s = tcp4(), value = 1;
    unsigned char byte = 1, big[16] = {1};
    socklen_t len = sizeof value;
    T(setsockopt(-1, SOL_SOCKET, SO_KEEPALIVE, &value, sizeof value));
    T(setsockopt(1000, IPPROTO_TCP, TCP_NODELAY, &value, sizeof value));
    T(setsockopt(0, IPPROTO_TCP, TCP_NODELAY, &value, sizeof value));
    T(getsockopt(0, SOL_SOCKET, SO_TYPE, &value, &len));
    T(getsockopt(-1, IPPROTO_TCP, TCP_NODELAY, &value, &len));

    T(setsockopt(s, SOL_SOCKET, 9999, &value, sizeof value));
    T(getsockopt(s, SOL_SOCKET, 9999, &value, &len));
    T(setsockopt(s, IPPROTO_TCP, 9999, &value, sizeof value));
    T(getsockopt(s, IPPROTO_TCP, 9999, &value, &len));
    T(setsockopt(s, IPPROTO_IP, 9999, &value, sizeof value));
    T(getsockopt(s, IPPROTO_IP, 9999, &value, &len));
    T(setsockopt(s, 12345, 1, &value, sizeof value));
    T(getsockopt(s, 12345, 1, &value, &len));
    T(setsockopt(s, IPPROTO_UDP, 1, &value, sizeof value));

    T(setsockopt(s, SOL_SOCKET, SO_REUSEPORT, &byte, 1));
    T(setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &byte, 1));
    T(setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &value, 0));
    T(setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &value, -1));
    T(setsockopt(s, IPPROTO_TCP, TCP_NODELAY, big, sizeof big));
    T(setsockopt(s, IPPROTO_TCP, TCP_NODELAY, NULL, sizeof value));
    T(setsockopt(s, IPPROTO_TCP, TCP_NODELAY, (void *)8, sizeof value));
    T(setsockopt(s, SOL_SOCKET, SO_LINGER, &value, sizeof value));
    T(setsockopt(s, SOL_SOCKET, SO_REUSEPORT, (void *)8, sizeof value));
    T(setsockopt(s, IPPROTO_IP, IP_TOS, &byte, 1));

    len = 1;
    byte = 0xaa;
    T(getsockopt(s, IPPROTO_TCP, TCP_NODELAY, &byte, &len));
    printf("length %u value %d\n", len, byte);
    len = 0;
    T(getsockopt(s, IPPROTO_TCP, TCP_NODELAY, &byte, &len));
    printf("length %u\n", len);
    len = sizeof big;
    T(getsockopt(s, IPPROTO_TCP, TCP_NODELAY, big, &len));
    printf("length %u\n", len);
    len = (socklen_t)-1;
    T(getsockopt(s, IPPROTO_TCP, TCP_NODELAY, big, &len));
    T(getsockopt(s, SOL_SOCKET, SO_TYPE, big, &len));
    len = sizeof value;
    T(getsockopt(s, IPPROTO_TCP, TCP_NODELAY, NULL, &len));
    T(getsockopt(s, IPPROTO_TCP, TCP_NODELAY, &value, NULL));
    T(getsockopt(s, SOL_SOCKET, SO_DOMAIN, (void *)8, &len));
    T(getsockopt(s, SOL_SOCKET, SO_DOMAIN, &value, (void *)8));
    len = 2;
    T(getsockopt(s, SOL_SOCKET, SO_DOMAIN, big, &len));
    printf("length %u value %d %d\n", len, big[0], big[1]);
    return 0;
}
