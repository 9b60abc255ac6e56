/* Stands between a node and its calls for the disk and the clock, and disturbs them as the file
   that PICKBOX_TEST_CONTROL names says. That file is shared memory, laid out as `struct control`;
   control.py writes it, and reads from it what was done. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

struct control {
    int64_t fsync_microseconds; /* longer that each fsync takes */
    int64_t fsync_errno;        /* what the next `fsync_failures` fail with */
    int64_t fsync_failures;
    int64_t clock_nanoseconds; /* that the wall clock is ahead */
    int64_t fsyncs_delayed, fsyncs_failed, writes_refused, clocks_shifted; /* done so far */
    char full[64]; /* writes to paths that contain this find no space; empty: none */
    int64_t reboots; /* losses of power so far: the machine's boot has another name after each */
};

static struct control nothing;
static volatile struct control *control = &nothing;

__attribute__((constructor)) static void begin(void) {
    const char *name = getenv("PICKBOX_TEST_CONTROL");
    int descriptor = name ? open(name, O_RDWR | O_CLOEXEC) : -1;
    if (descriptor < 0) return;
    void *found = mmap(NULL, sizeof nothing, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
    if (found != MAP_FAILED) control = found;
    close(descriptor);
}

#define REAL(name, result, ...) \
    static result (*real)(__VA_ARGS__); \
    if (!real) real = (result(*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)
#define COUNT(what) __atomic_add_fetch(&control->what, 1, __ATOMIC_RELAXED)

/* -- fsync -------------------------------------------------------------------------------- */

static int disturbed(void) {
    int64_t microseconds = control->fsync_microseconds;
    if (microseconds > 0) {
        COUNT(fsyncs_delayed);
        usleep((useconds_t)microseconds);
    }
    int64_t left = control->fsync_failures;
    while (left > 0)
        if (__atomic_compare_exchange_n(&control->fsync_failures, &left, left - 1, 0,
                                        __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
            COUNT(fsyncs_failed);
            errno = (int)control->fsync_errno;
            return -1;
        }
    return 0;
}

int fsync(int descriptor) {
    REAL("fsync", int, int);
    return disturbed() ? -1 : real(descriptor);
}

int fdatasync(int descriptor) {
    REAL("fdatasync", int, int);
    return disturbed() ? -1 : real(descriptor);
}

/* The kernel tells no file system in user space of a syncfs: lossy.py learns of it here. */
int syncfs(int descriptor) {
    REAL("syncfs", int, int);
    struct statfs found;
    if (disturbed() || real(descriptor)) return -1;
    if (fstatfs(descriptor, &found) || found.f_type != 0x65735546) return 0;
    return fsetxattr(descriptor, "user.lossy.syncfs", "", 0, 0);
}

/* -- space -------------------------------------------------------------------------------- */

static int refused(int descriptor) {
    char link[32], path[PATH_MAX];
    if (!control->full[0]) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    if (!strstr(path, (const char *)control->full)) return 0;
    COUNT(writes_refused);
    errno = ENOSPC;
    return 1;
}

ssize_t write(int descriptor, const void *data, size_t size) {
    REAL("write", ssize_t, int, const void *, size_t);
    return refused(descriptor) ? -1 : real(descriptor, data, size);
}

ssize_t writev(int descriptor, const struct iovec *parts, int count) {
    REAL("writev", ssize_t, int, const struct iovec *, int);
    return refused(descriptor) ? -1 : real(descriptor, parts, count);
}

ssize_t pwrite64(int descriptor, const void *data, size_t size, off64_t offset) {
    REAL("pwrite64", ssize_t, int, const void *, size_t, off64_t);
    return refused(descriptor) ? -1 : real(descriptor, data, size, offset);
}

ssize_t pwrite(int descriptor, const void *data, size_t size, off_t offset) {
    return pwrite64(descriptor, data, size, offset);
}

int posix_fallocate64(int descriptor, off64_t offset, off64_t length) {
    REAL("posix_fallocate64", int, int, off64_t, off64_t);
    return refused(descriptor) ? ENOSPC : real(descriptor, offset, length);
}

int posix_fallocate(int descriptor, off_t offset, off_t length) {
    return posix_fallocate64(descriptor, offset, length);
}

/* -- the boot of the machine -------------------------------------------------------------- */

/* What /proc says of it cannot be changed, so after a loss of power another text is read. */
static int boot_id(void) {
    char text[64];
    int descriptor = memfd_create("boot_id", MFD_CLOEXEC);
    if (descriptor < 0) return -1;
    int length = snprintf(text, sizeof text, "%08llx-0000-4000-8000-000000000000\n",
                          (unsigned long long)control->reboots);
    if (write(descriptor, text, (size_t)length) != length) return -1;
    lseek(descriptor, 0, SEEK_SET);
    return descriptor;
}

int open64(const char *path, int flags, ...) {
    REAL("open64", int, const char *, int, ...);
    va_list rest;
    va_start(rest, flags);
    mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    if (control->reboots && !strcmp(path, "/proc/sys/kernel/random/boot_id")) return boot_id();
    return real(path, flags, mode);
}

/* -- the wall clock ----------------------------------------------------------------------- */

int clock_gettime(clockid_t clock, struct timespec *now) {
    REAL("clock_gettime", int, clockid_t, struct timespec *);
    int failed = real(clock, now);
    int64_t ahead = control->clock_nanoseconds;
    if (failed || !ahead || (clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE))
        return failed;
    COUNT(clocks_shifted);
    int64_t whole = (int64_t)now->tv_sec * 1000000000 + now->tv_nsec + ahead;
    now->tv_sec = whole / 1000000000;
    now->tv_nsec = whole % 1000000000;
    return 0;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec found;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &found)) return -1;
    now->tv_sec = found.tv_sec;
    now->tv_usec = found.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *now) {
    struct timespec found;
    if (clock_gettime(CLOCK_REALTIME, &found)) return -1;
    if (now) *now = found.tv_sec;
    return found.tv_sec;
}
