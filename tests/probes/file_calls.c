// What the calls for files say of a socket.
#include "probe.h"
#include <sys/file.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/statfs.h>

int main(void) {
    int c, d, file = memfd_create("f", 0);
    struct stat st;
    char path[64], target[64] = "";
    connected_pair(&c, &d);
    T(fstat(c, &st));
    printf("socket %d, size %ld, links %ld, mode %o\n", S_ISSOCK(st.st_mode), (long)st.st_size, (long)st.st_nlink,
           st.st_mode & 0777);
    struct statfs fs;
    T(fstatfs(c, &fs));
    printf("sockfs %d\n", fs.f_type == 0x534F434B);
    snprintf(path, sizeof path, "/proc/self/fd/%d", c);
    MUST(readlink(path, target, sizeof target - 1));
    printf("%.8s\n", target);
    T(open(path, O_RDWR));
    T(lseek(c, 0, SEEK_CUR));
    T(ftruncate(c, 0));
    T(fsync(c));
    T(fdatasync(c));
    T(fallocate(c, 0, 0, 1));
    T(syscall(SYS_getdents64, c, path, sizeof path));
    T(fchdir(c));
    T(copy_file_range(c, NULL, file, NULL, 1, 0));
    T(sendfile(file, c, NULL, 1));
    T(readahead(c, 0, 1));
    T(posix_fadvise(c, 0, 0, 0));
    T(flock(c, LOCK_SH | LOCK_NB));
    T(fcntl(c, F_GETPIPE_SZ));
    T(fcntl(c, F_GETFL));
    T(fcntl(c, F_SETFL, O_APPEND | O_NONBLOCK));
    T(fcntl(c, F_GETFL));
    struct flock lock = {.l_type = F_RDLCK};
    T(fcntl(c, F_SETLK, &lock));
    return 0;
}
