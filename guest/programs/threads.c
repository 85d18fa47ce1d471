// Threads on several processors: atomic operations, locks, mappings taken away under stores, code that others rewrite.
#define _GNU_SOURCE
#include <linux/membarrier.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { THREADS = 4 };
static pthread_t threads[THREADS];
static atomic_int stop;

static void start(void *(*f)(void *)) {
  atomic_store(&stop, 0);
  for (intptr_t i = 0; i < THREADS; i++) pthread_create(&threads[i], NULL, f, (void *)i);
}
static void join(void) {
  for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
}

// Counters: in a word, across a cache line, across a page.
static atomic_long counter;
static uint64_t *line, *page;

static void *count(void *unused) {
  for (int i = 0; i < 50000; i++) {
    atomic_fetch_add(&counter, 1);
    __asm__ volatile("lock incq %0" : "+m"(*line));
  }
  for (int i = 0; i < 1000; i++) __asm__ volatile("lock incq %0" : "+m"(*page));
  return unused;
}

// A queue of one between producers and consumers.
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static long slot, made, taken, sum;

static void *pass(void *number) {
  const int producer = (intptr_t)number % 2;
  for (int i = 0; i < 2000; i++) {
    pthread_mutex_lock(&mutex);
    while (producer ? slot != 0 : slot == 0) pthread_cond_wait(&changed, &mutex);
    if (producer) {
      slot = ++made;
    } else {
      sum += slot;
      slot = 0;
      taken++;
    }
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&mutex);
  }
  return NULL;
}

// A page that becomes read-only while others store to it: nothing may change once mprotect() is back.
static volatile long *shared;
static volatile int protected;

static void on_fault(int number) {
  (void)number;
  while (protected && !atomic_load(&stop)) sched_yield();
}
static void *scribble(void *number) {
  volatile long *mine = shared + 64 * (intptr_t)number;
  while (!atomic_load(&stop)) ++*mine;
  return NULL;
}
static long scribbled(void) {
  long all = 0;
  for (int i = 0; i < THREADS; i++) all += shared[64 * i];
  return all;
}

// A function that is rewritten while others call it; the constants only grow.
static unsigned char *code;
static atomic_int late;

static void *call(void *unused) {
  int last = 0;
  while (!atomic_load(&stop)) {
    const int now = ((int (*)(void))code)();
    if (now < last) atomic_fetch_add(&late, 1);
    last = now;
  }
  return unused;
}

int main(void) {
  char *space = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  line = (uint64_t *)(space + 60), page = (uint64_t *)(space + 8192 - 4);
  start(count);
  join();
  printf("counters %ld %ld %ld\n", (long)counter, (long)*line, (long)*page);

  start(pass);
  join();
  printf("queue %ld %ld\n", taken, sum);

  shared = (volatile long *)(space + 65536);
  struct sigaction action = {.sa_handler = on_fault};
  sigaction(SIGSEGV, &action, NULL);
  start(scribble);
  int changes = 0;
  for (int i = 0; i < 300; i++) {
    protected = 1;
    mprotect((void *)shared, 4096, PROT_READ);
    const long before = scribbled();
    for (volatile int wait = 0; wait < 20000; wait++) continue;
    changes += scribbled() != before;
    mprotect((void *)shared, 4096, PROT_READ | PROT_WRITE);
    protected = 0;
    usleep(100);
  }
  atomic_store(&stop, 1);
  join();
  signal(SIGSEGV, SIG_DFL);
  printf("protected %d %s\n", changes, scribbled() > 1000 ? "moved" : "stood");

  code = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  memcpy(code, "\x0f\x1f\x00\xb8\0\0\0\0\xc3", 9);  // nop; mov eax, 0; ret: the constant is aligned
  syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE, 0, 0);
  start(call);
  int missed = 0;
  for (int i = 1; i <= 500; i++) {
    *(volatile int *)(code + 4) = i;
    if (syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE, 0, 0)) missed++;
    if (((int (*)(void))code)() != i) missed++;
  }
  atomic_store(&stop, 1);
  join();
  printf("code %d %d\n", (int)late, missed);

  // Processes: a tree of 32 that share a page and count in it.
  atomic_long *tree = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  fflush(stdout);
  const pid_t root = getpid();
  for (int depth = 0; depth < 5; depth++) fork();
  for (int i = 0; i < 1000; i++) atomic_fetch_add(tree, 1);
  while (wait(NULL) > 0) continue;
  if (getpid() != root) _exit(0);
  printf("processes %ld\n", (long)*tree);
  return 0;
}
