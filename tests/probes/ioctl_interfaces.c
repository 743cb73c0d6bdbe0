// Programs ask a TCP socket for the interfaces' addresses.
#include "probe.h"
#include <net/if.h>

static void ask(const char *label, int fd, unsigned long request) {
    struct ifreq r;
    memset(&r, 0, sizeof r);
    strcpy(r.ifr_name, "lo");
    errno = 0;
    int result = ioctl(fd, request, &r);
    printf("%s: %d %s\n", label, result, result ? errno_name(errno) : "");
}

int main(void) {
    int s = tcp4();
    struct ifreq list[8];
    struct ifconf all = {.ifc_len = sizeof list, .ifc_req = list};
    T(ioctl(s, SIOCGIFCONF, &all));
    printf("some: %d\n", all.ifc_len > 0);
    ask("flags", s, SIOCGIFFLAGS);
    ask("index", s, SIOCGIFINDEX);
    ask("mtu", s, SIOCGIFMTU);
    ask("address", s, SIOCGIFADDR);
    ask("netmask", s, SIOCGIFNETMASK);
    ask("hardware", s, SIOCGIFHWADDR);
    return 0;
}
