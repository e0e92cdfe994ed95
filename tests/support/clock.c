/* Sets the wall clock of one process by the file CLOCK_SET, read again at each call:

       OFFSET_SECONDS SYNCED         for example `-31536000 0`: a year back, and the kernel calls it unsynchronised

   Monotonic and boot time stay what they are. The file is overwritten in place by one write. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>
#include <sys/timex.h>
#include <time.h>
#include <unistd.h>

static int file = -1;

#define REAL(type, name, ...) \
    static type (*real_##name)(__VA_ARGS__); \
    if (real_##name == NULL) real_##name = (type(*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name)

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("CLOCK_SET");
    if (path == NULL || (file = open(path, O_RDONLY | O_CLOEXEC)) < 0) {
        fprintf(stderr, "clock.c: CLOCK_SET names no file that can be read\n");
        abort();
    }
}

static void setting(long long *offset, int *synced) {
    char text[64];
    ssize_t length = file < 0 ? 0 : pread(file, text, sizeof text - 1, 0);
    *offset = 0;
    *synced = 1;
    if (length <= 0) return;
    text[length] = 0;
    sscanf(text, "%lld %d", offset, synced);
}

static long long offset(void) {
    long long offset;
    int synced;
    setting(&offset, &synced);
    return offset;
}

static int is_synced(void) {
    long long offset;
    int synced;
    setting(&offset, &synced);
    return synced;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    REAL(int, clock_gettime, clockid_t, struct timespec *);
    int done = real_clock_gettime(clock, now);
    if (done == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += offset();
    return done;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    REAL(int, gettimeofday, struct timeval *, void *);
    int done = real_gettimeofday(now, zone);
    if (done == 0) now->tv_sec += offset();
    return done;
}

time_t time(time_t *result) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (result != NULL) *result = now.tv_sec;
    return now.tv_sec;
}

int adjtimex(struct timex *timex) {
    REAL(int, adjtimex, struct timex *);
    /* A sandbox may refuse the call; the answer is the file's in any case. */
    real_adjtimex(timex);
    timex->time.tv_sec += offset();
    return is_synced() ? TIME_OK : TIME_ERROR;
}

int ntp_adjtime(struct timex *timex) { return adjtimex(timex); }

/* Deadlines reckoned by the clock above mean the kernel's clock to the kernel. */
int pthread_cond_timedwait(pthread_cond_t *restrict cond, pthread_mutex_t *restrict mutex,
                           const struct timespec *restrict until) {
    static int (*real)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
    /* glibc keeps an older form of it, which dlsym would find first. */
    if (real == NULL) real = dlvsym(RTLD_NEXT, "pthread_cond_timedwait", "GLIBC_2.3.2");
    if (real == NULL) real = dlsym(RTLD_NEXT, "pthread_cond_timedwait");
    struct timespec moved = *until;
    moved.tv_sec -= offset();
    return real(cond, mutex, &moved);
}
