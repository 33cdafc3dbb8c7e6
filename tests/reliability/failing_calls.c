// Loaded before the C library (LD_PRELOAD), lets calls on files fail as disks do.
//
//   STRATA_FAIL=write:N      the N-th write and all behind it find the disk full (ENOSPC)
//   STRATA_FAIL=sync:N       the N-th fsync and all behind it fail (EIO)
//   STRATA_FAIL=read:N       the N-th read and all behind it fail (EIO)
//   STRATA_FAIL=short:N      every read, from the N-th on, gives at most one byte
//   STRATA_FAIL=clock:N      the time of day jumps by a day at every call, forth and back
//   STRATA_COUNT=FILE        appends the number of writes, syncs and reads at the end, as "write N sync N read N"
//
// Only files below the folder STRATA_FAIL_UNDER count, and mapped pages do not.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum Kind { WRITE, SYNC, READ, KINDS };
static const char* const kNames[KINDS] = {"write", "sync", "read"};
static long counts[KINDS];

static int is_watched(int descriptor) {
  const char* folder = getenv("STRATA_FAIL_UNDER");
  char link[64], path[4096];
  snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
  const ssize_t length = readlink(link, path, sizeof path - 1);
  if (folder == NULL || length < 0) return 0;
  path[length] = '\0';
  return strncmp(path, folder, strlen(folder)) == 0;
}

// Whether this call of the kind `name` is one that STRATA_FAIL means.
static int is_meant(const char* name, long number) {
  const char* fail = getenv("STRATA_FAIL");
  const size_t length = strlen(name);
  return fail != NULL && strncmp(fail, name, length) == 0 && fail[length] == ':' && number >= atol(fail + length + 1);
}

static int fails(enum Kind kind, int descriptor) {
  if (!is_watched(descriptor)) return 0;
  return is_meant(kNames[kind], __atomic_add_fetch(&counts[kind], 1, __ATOMIC_RELAXED));
}

__attribute__((destructor)) static void report(void) {
  const char* path = getenv("STRATA_COUNT");
  FILE* file = path == NULL ? NULL : fopen(path, "a");
  if (file == NULL) return;
  for (int kind = 0; kind < KINDS; ++kind) fprintf(file, "%s %ld ", kNames[kind], counts[kind]);
  fputc('\n', file);
  fclose(file);
}

#define NEXT(name) __typeof__(&name) next = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

static int full(void) {
  errno = ENOSPC;
  return -1;
}

static int broken(void) {
  errno = EIO;
  return -1;
}

ssize_t write(int descriptor, const void* data, size_t size) {
  NEXT(write);
  return fails(WRITE, descriptor) ? full() : next(descriptor, data, size);
}

ssize_t writev(int descriptor, const struct iovec* pieces, int count) {
  NEXT(writev);
  return fails(WRITE, descriptor) ? full() : next(descriptor, pieces, count);
}

ssize_t pwrite(int descriptor, const void* data, size_t size, off_t offset) {
  NEXT(pwrite);
  return fails(WRITE, descriptor) ? full() : next(descriptor, data, size, offset);
}

ssize_t pwrite64(int descriptor, const void* data, size_t size, off_t offset) {
  return pwrite(descriptor, data, size, offset);
}

int fsync(int descriptor) {
  NEXT(fsync);
  return fails(SYNC, descriptor) ? broken() : next(descriptor);
}

ssize_t read(int descriptor, void* data, size_t size) {
  NEXT(read);
  if (fails(READ, descriptor)) return broken();
  if (size > 1 && is_watched(descriptor) && is_meant("short", counts[READ])) size = 1;
  return next(descriptor, data, size);
}

// Seconds by which this look at the clock is wrong.
static long jump(void) {
  static long looks;
  const long day = 24 * 60 * 60;
  return is_meant("clock", 1) ? (__atomic_add_fetch(&looks, 1, __ATOMIC_RELAXED) % 2 == 0 ? day : -day) : 0;
}

int clock_gettime(clockid_t clock, struct timespec* now) {
  NEXT(clock_gettime);
  const int result = next(clock, now);
  if (clock == CLOCK_REALTIME) now->tv_sec += jump();
  return result;
}

int gettimeofday(struct timeval* now, void* zone) {
  NEXT(gettimeofday);
  const int result = next(now, zone);
  now->tv_sec += jump();
  return result;
}

time_t time(time_t* now) {
  struct timespec all;
  clock_gettime(CLOCK_REALTIME, &all);
  if (now != NULL) *now = all.tv_sec;
  return all.tv_sec;
}
