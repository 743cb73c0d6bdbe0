// io_uring would bypass the filter: wrapped programs are told that the kernel has none.
// expect: io_uring.expected
#include "probe.h"
#include <linux/io_uring.h>

int main(void) {
    struct io_uring_params params = {0};
    errno = 0;
    long fd = syscall(SYS_io_uring_setup, 4, &params);
    printf("io_uring_setup: %s\n", fd >= 0 ? "fd" : errno_name(errno));
    return 0;
}
