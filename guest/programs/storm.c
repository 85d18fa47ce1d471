// Many processes and threads at once: forks, execs, threads over one lock, a ring of pipes.
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { THREADS = 32, ROUNDS = 2000, RING = 20 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t turn_changed = PTHREAD_COND_INITIALIZER;
static unsigned long locked, atomic_count, turns;
static unsigned turn;
static __thread unsigned long own;

static void* count(void* argument) {
  (void)argument;
  for (unsigned i = 0; i < ROUNDS; i++) {
    pthread_mutex_lock(&lock);
    locked++;
    pthread_mutex_unlock(&lock);
    __atomic_fetch_add(&atomic_count, 1, __ATOMIC_RELAXED);
    own++;
  }
  return (void*)own;
}

static void* take_turns(void* argument) {
  const unsigned me = (unsigned)(unsigned long)argument;
  for (unsigned i = 0; i < 200; i++) {
    pthread_mutex_lock(&lock);
    while (turn != me) pthread_cond_wait(&turn_changed, &lock);
    turns++;
    turn = (me + 1) % 4;
    pthread_cond_broadcast(&turn_changed);
    pthread_mutex_unlock(&lock);
  }
  return 0;
}

int main(int argc, char** argv) {
  if (argc > 1) return atoi(argv[1]);
  setvbuf(stdout, 0, _IONBF, 0);

  unsigned long sum = 0;
  for (unsigned i = 0; i < 200; i++)
    if (fork() == 0) {
      volatile char memory[65536];
      for (unsigned k = 0; k < sizeof memory; k += 4096) memory[k] = (char)k;
      _exit((int)(i & 0x7f));
    }
  for (int status; wait(&status) > 0;) sum += (unsigned long)WEXITSTATUS(status);
  printf("200 forks: %lu\n", sum);

  sum = 0;
  for (unsigned i = 0; i < 100; i++) {
    char text[8];
    snprintf(text, sizeof text, "%u", i);
    const pid_t child = vfork();
    if (child == 0) {
      execl("/proc/self/exe", argv[0], text, (char*)0);
      _exit(255);
    }
    int status;
    waitpid(child, &status, 0);
    sum += (unsigned long)WEXITSTATUS(status);
  }
  printf("100 execs: %lu\n", sum);

  pthread_t threads[THREADS];
  sum = 0;
  for (unsigned i = 0; i < THREADS; i++) pthread_create(threads + i, 0, count, 0);
  for (unsigned i = 0; i < THREADS; i++) {
    void* result;
    pthread_join(threads[i], &result);
    sum += (unsigned long)result;
  }
  printf("threads: %lu %lu %lu\n", locked, atomic_count, sum);

  for (unsigned long i = 0; i < 4; i++) pthread_create(threads + i, 0, take_turns, (void*)i);
  for (unsigned i = 0; i < 4; i++) pthread_join(threads[i], 0);
  printf("turns: %lu\n", turns);

  int pipes[RING][2];
  for (unsigned i = 0; i < RING; i++)
    if (pipe(pipes[i])) return 1;
  for (unsigned i = 0; i + 1 < RING; i++)
    if (fork() == 0) {
      unsigned n;
      for (unsigned k = 0; k < 200; k++) {
        if (read(pipes[i][0], &n, sizeof n) != sizeof n) _exit(1);
        n++;
        if (write(pipes[i + 1][1], &n, sizeof n) != sizeof n) _exit(1);
      }
      _exit(0);
    }
  unsigned n = 0;
  for (unsigned k = 0; k < 200; k++) {
    if (write(pipes[0][1], &n, sizeof n) != sizeof n) return 1;
    if (read(pipes[RING - 1][0], &n, sizeof n) != sizeof n) return 1;
  }
  while (wait(0) > 0) {}
  printf("round the ring: %u\n", n);

  // Processes that are killed while they compute
  unsigned killed = 0;
  for (unsigned i = 0; i < 50; i++) {
    const pid_t child = fork();
    if (child == 0)
      for (volatile unsigned long x = 0;; x++) {}
    if (i % 2) usleep(500);
    kill(child, SIGKILL);
    int status;
    waitpid(child, &status, 0);
    killed += WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
  }
  printf("killed: %u\n", killed);
  return 0;
}
