/* Records what a process does to the files below a folder, in the order it happens, for powerloss.py.

   LD_PRELOAD=recorder.so RECORD_ROOT=/folder RECORD_LOG=/file program
   A record: op byte, inode u64, a u64, b u64, then b bytes of path or data (little endian).
     C created (a 1: regular file, 2: folder; path)   T truncated to a (no path)    W data written at a
     S fsynced                                        U unlinked (path)             R renamed (path NUL path)
   mmap is not seen: SQLite writes only its -shm file so, which does not survive a crash anyway. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static pthread_mutex_t order = PTHREAD_MUTEX_INITIALIZER;
static int log_file = -1;
static const char *root;

__attribute__((constructor)) static void start(void) {
    root = getenv("RECORD_ROOT");
    const char *path = getenv("RECORD_LOG");
    if (root && path) log_file = syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

static int below(const char *path) {
    return log_file >= 0 && path && !strncmp(path, root, strlen(root));
}

/* The absolute path that a name relative to a folder's descriptor means. */
static const char *whole(int folder, const char *name, char *out) {
    char link[64];
    ssize_t n;
    if (name[0] == '/') return name;
    if (folder == AT_FDCWD) {
        if (!getcwd(out, PATH_MAX)) return NULL;
        n = strlen(out);
    } else {
        snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
        n = readlink(link, out, PATH_MAX - 1);
        if (n < 0) return NULL;
    }
    snprintf(out + n, PATH_MAX - n, "/%s", name);
    return out;
}

static int ours(int fd, uint64_t *inode) {
    char link[64], path[PATH_MAX];
    struct stat found;
    if (log_file < 0) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n < 0) return 0;
    path[n] = 0;
    if (!below(path) || fstat(fd, &found)) return 0;
    *inode = found.st_ino;
    return 1;
}

static void record(char op, uint64_t inode, uint64_t a, const void *data, uint64_t length) {
    unsigned char head[25];
    head[0] = op;
    memcpy(head + 1, &inode, 8);
    memcpy(head + 9, &a, 8);
    memcpy(head + 17, &length, 8);
    syscall(SYS_write, log_file, head, sizeof head);
    const char *at = data;
    while (length) {
        ssize_t n = syscall(SYS_write, log_file, at, length);
        if (n <= 0) abort();
        at += n;
        length -= n;
    }
}

static int open_recorded(int folder, const char *name, int flags, mode_t mode) {
    char space[PATH_MAX];
    const char *path = whole(folder, name, space);
    if (!below(path)) return syscall(SYS_openat, folder, name, flags, mode);
    pthread_mutex_lock(&order);
    struct stat before, found;
    int was = !stat(path, &before);
    int fd = syscall(SYS_openat, folder, name, flags, mode);
    int kept = errno;
    if (fd >= 0 && !fstat(fd, &found)) {
        if (!was && (flags & O_CREAT)) record('C', found.st_ino, 1, path, strlen(path));
        else if (flags & O_TRUNC) record('T', found.st_ino, 0, NULL, 0);
    }
    pthread_mutex_unlock(&order);
    errno = kept;
    return fd;
}

#define MODE va_list rest; mode_t mode = 0; if (flags & O_CREAT) { va_start(rest, flags); mode = va_arg(rest, mode_t); va_end(rest); }
int open(const char *path, int flags, ...) { MODE return open_recorded(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE return open_recorded(AT_FDCWD, path, flags, mode); }
int openat(int folder, const char *path, int flags, ...) { MODE return open_recorded(folder, path, flags, mode); }
int openat64(int folder, const char *path, int flags, ...) { MODE return open_recorded(folder, path, flags, mode); }

static ssize_t written(int fd, const void *data, size_t size, off_t at, int placed) {
    uint64_t inode;
    if (!ours(fd, &inode)) return placed ? syscall(SYS_pwrite64, fd, data, size, at) : syscall(SYS_write, fd, data, size);
    pthread_mutex_lock(&order);
    ssize_t n = placed ? syscall(SYS_pwrite64, fd, data, size, at) : syscall(SYS_write, fd, data, size);
    int kept = errno;
    if (n > 0) record('W', inode, placed ? (uint64_t)at : (uint64_t)(lseek(fd, 0, SEEK_CUR) - n), data, n);
    pthread_mutex_unlock(&order);
    errno = kept;
    return n;
}

ssize_t write(int fd, const void *data, size_t size) { return written(fd, data, size, 0, 0); }
ssize_t pwrite(int fd, const void *data, size_t size, off_t at) { return written(fd, data, size, at, 1); }
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) { return written(fd, data, size, at, 1); }

static int cut(int fd, off_t size) {
    uint64_t inode;
    int mine = ours(fd, &inode);
    if (mine) pthread_mutex_lock(&order);
    int answer = syscall(SYS_ftruncate, fd, size), kept = errno;
    if (mine) {
        if (!answer) record('T', inode, size, NULL, 0);
        pthread_mutex_unlock(&order);
    }
    errno = kept;
    return answer;
}

int ftruncate(int fd, off_t size) { return cut(fd, size); }
int ftruncate64(int fd, off64_t size) { return cut(fd, size); }

static int synced(int fd, long call) {
    uint64_t inode;
    int mine = ours(fd, &inode);
    if (mine) pthread_mutex_lock(&order);
    /* The disk is not waited for: what matters is what was asked of it. */
    int answer = mine ? 0 : syscall(call, fd);
    if (mine) {
        record('S', inode, 0, NULL, 0);
        pthread_mutex_unlock(&order);
    }
    return answer;
}

int fsync(int fd) { return synced(fd, SYS_fsync); }
int fdatasync(int fd) { return synced(fd, SYS_fdatasync); }

static int unlinked(int folder, const char *name, int flags) {
    char space[PATH_MAX];
    const char *path = whole(folder, name, space);
    int mine = below(path);
    if (mine) pthread_mutex_lock(&order);
    int answer = syscall(SYS_unlinkat, folder, name, flags), kept = errno;
    if (mine) {
        if (!answer) record('U', 0, 0, path, strlen(path));
        pthread_mutex_unlock(&order);
    }
    errno = kept;
    return answer;
}

int unlink(const char *path) { return unlinked(AT_FDCWD, path, 0); }
int unlinkat(int folder, const char *path, int flags) { return unlinked(folder, path, flags); }
int rmdir(const char *path) { return unlinked(AT_FDCWD, path, AT_REMOVEDIR); }

int renameat(int from_folder, const char *from, int to_folder, const char *to) {
    char one[PATH_MAX], two[PATH_MAX], both[2 * PATH_MAX + 1];
    const char *old = whole(from_folder, from, one), *new = whole(to_folder, to, two);
    int mine = below(old) && below(new);
    if (mine) pthread_mutex_lock(&order);
    int answer = syscall(SYS_renameat2, from_folder, from, to_folder, to, 0), kept = errno;
    if (mine) {
        size_t n = strlen(old) + 1;
        memcpy(both, old, n);
        memcpy(both + n, new, strlen(new));
        if (!answer) record('R', 0, 0, both, n + strlen(new));
        pthread_mutex_unlock(&order);
    }
    errno = kept;
    return answer;
}

int rename(const char *from, const char *to) { return renameat(AT_FDCWD, from, AT_FDCWD, to); }

int mkdirat(int folder, const char *name, mode_t mode) {
    char space[PATH_MAX];
    const char *path = whole(folder, name, space);
    int mine = below(path);
    if (mine) pthread_mutex_lock(&order);
    int answer = syscall(SYS_mkdirat, folder, name, mode), kept = errno;
    if (mine) {
        struct stat found;
        if (!answer && !stat(path, &found)) record('C', found.st_ino, 2, path, strlen(path));
        pthread_mutex_unlock(&order);
    }
    errno = kept;
    return answer;
}

int mkdir(const char *path, mode_t mode) { return mkdirat(AT_FDCWD, path, mode); }
