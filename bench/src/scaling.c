// How loads scale from one processor to two: each for a while on one, then on two, again and again, in pairs.
//
// usage: scaling PAIRS MILLISECONDS LOAD...; a line "LOAD one two" for each pair, in operations a second.
//   cpu-int  independent integer work, a thread for each processor
//   atomics  the same number of threads add to one number
//   futex    two threads wake each other up            pipe  two processes pass a byte back and forth
//   mmap     threads of one address space map, touch and unmap pages
#define _GNU_SOURCE
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static atomic_bool stop;
static atomic_ulong operations;
static _Atomic uint32_t word __attribute__((aligned(64)));

static void pin(int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  if (sched_setaffinity(0, sizeof set, &set)) perror("sched_setaffinity"), exit(1);
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

struct Worker {
  int number, cpu;
  void (*work)(struct Worker*);
};

static void cpu_int(struct Worker* w) {
  uint64_t x = 88172645463325252u + (uint64_t)w->number, table[256] = {0}, rounds = 0;
  for (; !atomic_load_explicit(&stop, memory_order_relaxed); rounds++)
    for (int i = 0; i < 1000; i++) {
      x ^= x << 13, x ^= x >> 7, x ^= x << 17;
      table[x & 255] += x;
      if (table[(x >> 8) & 255] & 1) x += 3;
    }
  atomic_fetch_add(&operations, rounds + (x == table[0]));
}

static void atomics(struct Worker* w) {
  (void)w;
  uint64_t rounds = 0;
  for (; !atomic_load_explicit(&stop, memory_order_relaxed); rounds += 100)
    for (int i = 0; i < 100; i++) atomic_fetch_add(&word, 1);
  atomic_fetch_add(&operations, rounds);
}

static void futex(struct Worker* w) {
  const uint32_t mine = (uint32_t)w->number;
  uint64_t rounds = 0;
  while (!atomic_load(&stop)) {
    uint32_t seen;
    while ((seen = atomic_load(&word)) % 2 != mine && !atomic_load(&stop)) {
      const struct timespec limit = {0, 20000000};
      syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, seen, &limit, 0, 0);
    }
    if (atomic_load(&stop)) break;
    atomic_fetch_add(&word, 1);
    syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, 1, 0, 0, 0);
    rounds++;
  }
  atomic_fetch_add(&operations, rounds);
}

static void map(struct Worker* w) {
  (void)w;
  uint64_t rounds = 0;
  for (; !atomic_load(&stop); rounds++) {
    const size_t bytes = 16 * 4096;
    volatile char* at = mmap(0, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) perror("mmap"), exit(1);
    for (size_t i = 0; i < bytes; i += 4096) at[i] = 1;
    munmap((void*)at, bytes);
  }
  atomic_fetch_add(&operations, rounds);
}

static void* begin(void* argument) {
  struct Worker* w = argument;
  pin(w->cpu);
  w->work(w);
  return 0;
}

static double threads(void (*work)(struct Worker*), int count, int cpus, double seconds) {
  pthread_t ids[2];
  struct Worker workers[2];
  atomic_store(&stop, 0), atomic_store(&operations, 0), atomic_store(&word, 0);
  const double start = now();
  for (int i = 0; i < count; i++) {
    workers[i] = (struct Worker){i, i % cpus, work};
    if (pthread_create(&ids[i], 0, begin, &workers[i])) perror("pthread_create"), exit(1);
  }
  usleep((useconds_t)(1e6 * seconds));
  atomic_store(&stop, 1);
  for (int i = 0; i < count; i++) pthread_join(ids[i], 0);
  return (double)atomic_load(&operations) / (now() - start);
}

static double pipes(int cpus, double seconds) {
  int there[2], back[2];
  if (pipe(there) || pipe(back)) perror("pipe"), exit(1);
  char byte = 1;
  const pid_t child = fork();
  if (child == 0) {
    pin(cpus - 1);
    close(there[1]);
    while (read(there[0], &byte, 1) == 1 && write(back[1], &byte, 1) == 1) continue;
    _exit(0);
  }
  pin(0);
  close(there[0]), close(back[1]);
  const double start = now();
  uint64_t rounds = 0;
  while (now() - start < seconds) {
    if (write(there[1], &byte, 1) != 1 || read(back[0], &byte, 1) != 1) perror("pipe"), exit(1);
    rounds++;
  }
  const double passed = now() - start;
  close(there[1]), close(back[0]);
  waitpid(child, 0, 0);
  return (double)rounds / passed;
}

static double run(const char* load, int cpus, double seconds) {
  if (!strcmp(load, "cpu-int")) return threads(cpu_int, cpus, cpus, seconds);
  if (!strcmp(load, "atomics")) return threads(atomics, cpus, cpus, seconds);
  if (!strcmp(load, "futex")) return threads(futex, 2, cpus, seconds);
  if (!strcmp(load, "mmap")) return threads(map, cpus, cpus, seconds);
  if (!strcmp(load, "pipe")) return pipes(cpus, seconds);
  fprintf(stderr, "no load is called %s\n", load);
  exit(2);
}

int main(int count, char** arguments) {
  if (count < 4) return fprintf(stderr, "usage: scaling PAIRS MILLISECONDS LOAD...\n"), 2;
  const int pairs = atoi(arguments[1]);
  const double seconds = 1e-3 * atof(arguments[2]);
  for (int i = 3; i < count; i++) {
    run(arguments[i], 2, seconds / 4);  // warm
    for (int pair = 0; pair < pairs; pair++) {
      const double one = run(arguments[i], 1, seconds), two = run(arguments[i], 2, seconds);
      printf("%s %.0f %.0f\n", arguments[i], one, two);
      fflush(stdout);
    }
  }
  return 0;
}
