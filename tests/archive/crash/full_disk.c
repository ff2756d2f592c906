/* A disk that is full from the n-th call that takes space below a folder on, for full_disk.py.

   LD_PRELOAD=full_disk.so FULL_DISK_ROOT=/folder program, which calls full_disk(n, stays):
     n 0: only count    n > 0: the n-th call fails with ENOSPC    stays: so do all calls after it
   Counted are: creating a file or folder, writing, growing a file, fsync, rename and link. Deleting and shrinking
   work on a full disk. Once a call has failed, the file system says that it has no room left. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static const char *root;
static atomic_int armed, at, stays, calls, failed;

__attribute__((constructor)) static void start(void) { root = getenv("FULL_DISK_ROOT"); }

void full_disk(int n, int stay) {
    at = n;
    stays = stay;
    calls = failed = 0;
    armed = n >= 0;
}

int full_disk_calls(void) { return calls; }

/* Whether this call finds the disk full. */
static int full(void) {
    int number = ++calls;
    if (!at || (stays ? number < at : number != at)) return 0;
    failed = 1;
    errno = ENOSPC;
    return 1;
}

static int below(const char *path) { return path && root && !strncmp(path, root, strlen(root)); }

static const char *named(int fd, char *out) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, out, PATH_MAX - 1);
    if (n < 0) return NULL;
    out[n] = 0;
    return out;
}

static int path_fails(int folder, const char *name) {
    char space[2 * PATH_MAX], place[PATH_MAX];
    if (!armed || !root) return 0;
    if (name[0] == '/') return below(name) && full();
    const char *at_folder = folder == AT_FDCWD ? getcwd(place, sizeof place) : named(folder, place);
    if (!at_folder) return 0;
    snprintf(space, sizeof space, "%s/%s", at_folder, name);
    return below(space) && full();
}

static int file_fails(int fd) {
    char path[PATH_MAX];
    struct stat facts;
    return armed && root && !fstat(fd, &facts) && (S_ISREG(facts.st_mode) || S_ISDIR(facts.st_mode))
        && below(named(fd, path)) && full();
}

static int opened(int folder, const char *name, int flags, mode_t mode) {
    struct stat facts;
    if (armed && (flags & O_CREAT) && fstatat(folder, name, &facts, AT_SYMLINK_NOFOLLOW) && path_fails(folder, name)) return -1;
    return syscall(SYS_openat, folder, name, flags, mode);
}

#define MODE va_list rest; mode_t mode = 0; if (flags & O_CREAT) { va_start(rest, flags); mode = va_arg(rest, mode_t); va_end(rest); }
int open(const char *path, int flags, ...) { MODE return opened(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE return opened(AT_FDCWD, path, flags, mode); }
int openat(int folder, const char *path, int flags, ...) { MODE return opened(folder, path, flags, mode); }
int openat64(int folder, const char *path, int flags, ...) { MODE return opened(folder, path, flags, mode); }

ssize_t write(int fd, const void *data, size_t size) { return file_fails(fd) ? -1 : syscall(SYS_write, fd, data, size); }
ssize_t writev(int fd, const struct iovec *parts, int count) { return file_fails(fd) ? -1 : syscall(SYS_writev, fd, parts, count); }
ssize_t pwrite(int fd, const void *data, size_t size, off_t to) { return file_fails(fd) ? -1 : syscall(SYS_pwrite64, fd, data, size, to); }
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t to) { return file_fails(fd) ? -1 : syscall(SYS_pwrite64, fd, data, size, to); }
ssize_t sendfile(int to, int from, off_t *start, size_t size) { return file_fails(to) ? -1 : syscall(SYS_sendfile, to, from, start, size); }
ssize_t sendfile64(int to, int from, off64_t *start, size_t size) { return file_fails(to) ? -1 : syscall(SYS_sendfile, to, from, start, size); }
ssize_t copy_file_range(int from, off64_t *a, int to, off64_t *b, size_t size, unsigned flags) {
    return file_fails(to) ? -1 : syscall(SYS_copy_file_range, from, a, to, b, size, flags);
}

static int sized(int fd, off_t size) {
    struct stat facts;
    if (armed && !fstat(fd, &facts) && size > facts.st_size && file_fails(fd)) return -1;
    return syscall(SYS_ftruncate, fd, size);
}

int ftruncate(int fd, off_t size) { return sized(fd, size); }
int ftruncate64(int fd, off64_t size) { return sized(fd, size); }
int fsync(int fd) { return file_fails(fd) ? -1 : armed ? 0 : syscall(SYS_fsync, fd); }
int fdatasync(int fd) { return file_fails(fd) ? -1 : armed ? 0 : syscall(SYS_fdatasync, fd); }

int renameat(int from_folder, const char *from, int to_folder, const char *to) {
    return path_fails(to_folder, to) ? -1 : syscall(SYS_renameat2, from_folder, from, to_folder, to, 0);
}

int rename(const char *from, const char *to) { return renameat(AT_FDCWD, from, AT_FDCWD, to); }
int mkdirat(int folder, const char *name, mode_t mode) { return path_fails(folder, name) ? -1 : syscall(SYS_mkdirat, folder, name, mode); }
int mkdir(const char *path, mode_t mode) { return mkdirat(AT_FDCWD, path, mode); }
int linkat(int from_folder, const char *from, int to_folder, const char *to, int flags) {
    return path_fails(to_folder, to) ? -1 : syscall(SYS_linkat, from_folder, from, to_folder, to, flags);
}
int link(const char *from, const char *to) { return linkat(AT_FDCWD, from, AT_FDCWD, to, 0); }

static int room(const char *path, struct statvfs *facts) {
    static int (*real)(const char *, struct statvfs *);
    if (!real) real = (int (*)(const char *, struct statvfs *))dlsym(RTLD_NEXT, "statvfs");
    int answer = real(path, facts);
    if (!answer && failed && below(path)) facts->f_bavail = facts->f_bfree = 0;
    return answer;
}

int statvfs(const char *path, struct statvfs *facts) { return room(path, facts); }
int statvfs64(const char *path, struct statvfs64 *facts) { return room(path, (struct statvfs *)facts); }
