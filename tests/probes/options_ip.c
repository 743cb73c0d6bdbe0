// IPPROTO_IP and IPPROTO_IPV6: type of service, time to live.
#include "probe.h"

static int get(int fd, int level, int name) {
    int value = -12345;
    socklen_t len = sizeof value;
    if (getsockopt(fd, level, name, &value, &len) < 0)
        return -errno;
    return len == sizeof value ? value : -99999;
}

static void set(const char *label, int fd, int level, int name, int value) {
    errno = 0;
    int r = setsockopt(fd, level, name, &value, sizeof value), e = errno;
    printf("%s set %d: %d %s, is %d\n", label, value, r, errno_name(e), get(fd, level, name));
}

int main(void) {
    int c, d, six = tcp6();
    connected_pair(&c, &d);
    int fds[] = {tcp4(), c, six};
    const char *names[] = {"IPv4", "connected", "IPv6"};
    for (int i = 0; i < 3; i++) {
        printf("-- %s\nTOS %d TTL %d\n", names[i], get(fds[i], IPPROTO_IP, IP_TOS), get(fds[i], IPPROTO_IP, IP_TTL));
        set("TOS", fds[i], IPPROTO_IP, IP_TOS, 0x10);
        set("TOS", fds[i], IPPROTO_IP, IP_TOS, 0xb8);
        set("TOS", fds[i], IPPROTO_IP, IP_TOS, 0);
        set("TTL", fds[i], IPPROTO_IP, IP_TTL, 5);
        set("TTL", fds[i], IPPROTO_IP, IP_TTL, 0);
        set("TTL", fds[i], IPPROTO_IP, IP_TTL, 256);
        set("TTL", fds[i], IPPROTO_IP, IP_TTL, -1);
    }
    printf("TCLASS %d HOPS %d\n", get(six, IPPROTO_IPV6, IPV6_TCLASS), get(six, IPPROTO_IPV6, IPV6_UNICAST_HOPS));
    set("TCLASS", six, IPPROTO_IPV6, IPV6_TCLASS, 0x20);
    set("TCLASS", six, IPPROTO_IPV6, IPV6_TCLASS, 256);
    set("TCLASS", six, IPPROTO_IPV6, IPV6_TCLASS, -1);
    set("HOPS", six, IPPROTO_IPV6, IPV6_UNICAST_HOPS, 9);
    set("HOPS", six, IPPROTO_IPV6, IPV6_UNICAST_HOPS, 256);
    set("TCLASS on IPv4", c, IPPROTO_IPV6, IPV6_TCLASS, 0x20);
    return 0;
}
