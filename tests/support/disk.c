/* Stands between a program and the disk, for the files whose path holds DISK_MATCH:

   - With DISK_LOG=FILE every change (open that creates or truncates, write, truncate, sync, rename, unlink) is
     appended to FILE in the order in which it happened. tests/support/cut.rs reads it; `struct entry` is its form.
   - With DISK_FAULT=FILE the lines of FILE, read again at each call, say what goes wrong from now on:

         write EIO|ENOSPC|EROFS...     also: open (for writing), fsync, name (rename, unlink), read
         fsync EIO 3                   one call in three, by the dice of DISK_SEED
         fsync delay 2000              milliseconds before the call, which is then made
         kill 37                       the process ends by SIGKILL before its 37th change from its start

     The file is overwritten in place by one write of a whole block, so that no reader sees half of it. Files whose
     path holds DISK_SPARE never fail.

   The wal-index (-shm) is mapped memory; a power cut leaves nothing of it that anybody reads.
   Calls that the process makes around the C library are not seen. Paths are absolute. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

struct entry {
    uint8_t what; /* 'c'reate, 'w'rite, 't'runcate, 's'ync, 'f'ailed sync, 'r'ename, 'u'nlink */
    uint8_t none;
    uint16_t path_length;
    uint32_t length; /* of what follows the path: the data, or the new name */
    uint64_t at;     /* offset of a write, new length of a truncation */
};

static const char *match, *spare;
static int log_file = -1, fault_file = -1;
static atomic_int changes;
static atomic_ullong dice;
/* Held over a change and its entry, so that the order of the log is the order of the changes. */
static pthread_mutex_t order = PTHREAD_MUTEX_INITIALIZER;

#define REAL(type, name, ...) \
    static type (*real_##name)(__VA_ARGS__); \
    if (real_##name == NULL) real_##name = (type(*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name)

__attribute__((constructor)) static void begin(void) {
    REAL(int, open64, const char *, int, ...);
    match = getenv("DISK_MATCH");
    spare = getenv("DISK_SPARE");
    const char *log = getenv("DISK_LOG"), *fault = getenv("DISK_FAULT"), *seed = getenv("DISK_SEED");
    dice = seed == NULL ? 1 : strtoull(seed, NULL, 10);
    if (log != NULL) log_file = real_open64(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fault != NULL) fault_file = real_open64(fault, O_RDONLY | O_CLOEXEC);
    if (match == NULL || (log != NULL && log_file < 0) || (fault != NULL && fault_file < 0)) {
        fprintf(stderr, "disk.c: DISK_MATCH is missing, or a file cannot be opened\n");
        abort();
    }
}

static int is_ours(const char *path) { return match != NULL && path != NULL && strstr(path, match) != NULL; }

/* The path of a descriptor, if it is one of ours. */
static int path_of(int file, char path[PATH_MAX]) {
    char link[40];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return is_ours(path);
}

static int number_of(const char *name) {
    static const struct { const char *name; int number; } known[] = {
        {"EIO", EIO}, {"ENOSPC", ENOSPC}, {"EROFS", EROFS}, {"EACCES", EACCES}, {"EDQUOT", EDQUOT}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(known[i].name, name) == 0) return known[i].number;
    return 0;
}

/* Falls true one time in `count`. Knuth's MMIX generator; its high bits are the good ones. */
static int falls(int count) {
    unsigned long long now, next;
    now = dice;
    do next = now * 6364136223846793005ULL + 1442695040888963407ULL;
    while (!atomic_compare_exchange_weak(&dice, &now, next));
    return count <= 1 || (next >> 33) % (unsigned)count == 0;
}

/* The error to fail with, or 0; a delay is spent here. */
static int fault(const char *operation, const char *path) {
    if (fault_file < 0 || (spare != NULL && strstr(path, spare) != NULL)) return 0;
    REAL(ssize_t, pread64, int, void *, size_t, off64_t);
    char text[512];
    ssize_t length = real_pread64(fault_file, text, sizeof text - 1, 0);
    if (length <= 0) return 0;
    text[length] = 0;
    int error = 0;
    char *rest = NULL;
    for (char *line = strtok_r(text, "\n", &rest); line != NULL; line = strtok_r(NULL, "\n", &rest)) {
        char which[16], what[16];
        int number = 0;
        if (sscanf(line, "%15s %15s %d", which, what, &number) < 2) continue;
        if (strcmp(which, operation) != 0) continue;
        if (strcmp(what, "delay") == 0) {
            struct timespec wait = {number / 1000, (number % 1000) * 1000000L};
            while (nanosleep(&wait, &wait) != 0 && errno == EINTR) {}
        } else if (strcmp(which, "kill") == 0) {
            error = atoi(what);
        } else if (falls(number)) {
            error = number_of(what);
        }
    }
    return error;
}

/* Before each change: ends the process if this is where it ends. */
static void count_change(void) {
    int last = fault("kill", "");
    if (atomic_fetch_add(&changes, 1) + 1 == last) kill(getpid(), SIGKILL);
}

static void enter(uint8_t what, const char *path, uint64_t at, const void *follows, size_t length) {
    if (log_file < 0) return;
    REAL(ssize_t, writev, int, const struct iovec *, int);
    struct entry entry = {what, 0, (uint16_t)strlen(path), (uint32_t)length, at};
    struct iovec parts[] = {
        {&entry, sizeof entry}, {(void *)path, entry.path_length}, {(void *)follows, length}};
    ssize_t whole = (ssize_t)(sizeof entry + entry.path_length + length);
    int before = errno;
    if (real_writev(log_file, parts, 3) != whole) {
        fprintf(stderr, "disk.c: the log cannot be written\n");
        abort();
    }
    errno = before;
}

#define FAIL(operation, path) \
    do { \
        int error = fault(operation, path); \
        if (error != 0) { \
            errno = error; \
            return -1; \
        } \
    } while (0)

/* ---- files come into being ---- */

static int open_any(int (*real)(const char *, int, ...), const char *path, int flags, mode_t mode) {
    if (!is_ours(path) || (flags & O_ACCMODE) == O_RDONLY) return real(path, flags, mode);
    FAIL("open", path);
    pthread_mutex_lock(&order);
    struct stat before;
    int is_new = stat(path, &before) != 0;
    if (is_new || (flags & O_TRUNC)) count_change();
    int file = real(path, flags, mode);
    if (file >= 0 && is_new) enter('c', path, 0, NULL, 0);
    if (file >= 0 && !is_new && (flags & O_TRUNC)) enter('t', path, 0, NULL, 0);
    pthread_mutex_unlock(&order);
    return file;
}

#define OPEN(name) \
    int name(const char *path, int flags, ...) { \
        REAL(int, name, const char *, int, ...); \
        va_list rest; \
        va_start(rest, flags); \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0; \
        va_end(rest); \
        return open_any(real_##name, path, flags, mode); \
    }
OPEN(open)
OPEN(open64)

/* ---- they change ---- */

#define WRITE(name, kind) \
    ssize_t name(int file, const void *data, size_t length, kind at) { \
        REAL(ssize_t, name, int, const void *, size_t, kind); \
        char path[PATH_MAX]; \
        if (!path_of(file, path)) return real_##name(file, data, length, at); \
        FAIL("write", path); \
        pthread_mutex_lock(&order); \
        count_change(); \
        ssize_t done = real_##name(file, data, length, at); \
        if (done > 0) enter('w', path, (uint64_t)at, data, (size_t)done); \
        pthread_mutex_unlock(&order); \
        return done; \
    }
WRITE(pwrite, off_t)
WRITE(pwrite64, off64_t)

ssize_t write(int file, const void *data, size_t length) {
    REAL(ssize_t, write, int, const void *, size_t);
    char path[PATH_MAX];
    if (!path_of(file, path)) return real_write(file, data, length);
    FAIL("write", path);
    pthread_mutex_lock(&order);
    count_change();
    ssize_t done = real_write(file, data, length);
    /* Where it went is known best afterwards: with O_APPEND the offset before means nothing. */
    if (done > 0) enter('w', path, (uint64_t)(lseek64(file, 0, SEEK_CUR) - done), data, (size_t)done);
    pthread_mutex_unlock(&order);
    return done;
}

#define TRUNCATE(name, kind) \
    int name(int file, kind length) { \
        REAL(int, name, int, kind); \
        char path[PATH_MAX]; \
        if (!path_of(file, path)) return real_##name(file, length); \
        FAIL("write", path); \
        pthread_mutex_lock(&order); \
        count_change(); \
        int done = real_##name(file, length); \
        if (done == 0) enter('t', path, (uint64_t)length, NULL, 0); \
        pthread_mutex_unlock(&order); \
        return done; \
    }
TRUNCATE(ftruncate, off_t)
TRUNCATE(ftruncate64, off64_t)

/* ---- and are synced; a sync that fails leaves its mark too ---- */

#define SYNC(name) \
    int name(int file) { \
        REAL(int, name, int); \
        char path[PATH_MAX]; \
        if (!path_of(file, path)) return real_##name(file); \
        int error = fault("fsync", path); \
        pthread_mutex_lock(&order); \
        count_change(); \
        int done = -1; \
        if (error != 0) \
            errno = error; \
        else \
            done = real_##name(file); \
        enter(done == 0 ? 's' : 'f', path, 0, NULL, 0); \
        pthread_mutex_unlock(&order); \
        return done; \
    }
SYNC(fsync)
SYNC(fdatasync)

/* ---- names ---- */

int rename(const char *from, const char *to) {
    REAL(int, rename, const char *, const char *);
    if (!is_ours(from) && !is_ours(to)) return real_rename(from, to);
    FAIL("name", from);
    pthread_mutex_lock(&order);
    count_change();
    int done = real_rename(from, to);
    if (done == 0) enter('r', from, 0, to, strlen(to));
    pthread_mutex_unlock(&order);
    return done;
}

int unlink(const char *path) {
    REAL(int, unlink, const char *);
    if (!is_ours(path)) return real_unlink(path);
    FAIL("name", path);
    pthread_mutex_lock(&order);
    count_change();
    int done = real_unlink(path);
    if (done == 0) enter('u', path, 0, NULL, 0);
    pthread_mutex_unlock(&order);
    return done;
}

/* ---- reading fails, too ---- */

#define READ(name, ...) \
    do { \
        char path[PATH_MAX]; \
        if (fault_file >= 0 && path_of(file, path)) FAIL("read", path); \
        return real_##name(__VA_ARGS__); \
    } while (0)

ssize_t read(int file, void *data, size_t length) {
    REAL(ssize_t, read, int, void *, size_t);
    READ(read, file, data, length);
}

ssize_t pread(int file, void *data, size_t length, off_t at) {
    REAL(ssize_t, pread, int, void *, size_t, off_t);
    READ(pread, file, data, length, at);
}

ssize_t pread64(int file, void *data, size_t length, off64_t at) {
    REAL(ssize_t, pread64, int, void *, size_t, off64_t);
    READ(pread64, file, data, length, at);
}
