// A C program with answers that do not depend on the compiler's flags: integers, floats, threads, signals, jumps.
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static uint64_t state = 88172645463325252u;
static uint64_t next_random(void) {
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return state;
}

static uint64_t hash_of(const void* data, size_t size) {
  uint64_t hash = 14695981039346656037u;
  for (size_t i = 0; i < size; ++i) hash = (hash ^ ((const unsigned char*)data)[i]) * 1099511628211u;
  return hash;
}

static int compare(const void* a, const void* b) {
  const uint64_t x = *(const uint64_t*)a, y = *(const uint64_t*)b;
  return x < y ? -1 : x > y;
}

static void integers(void) {
  static uint64_t numbers[50000];
  for (size_t i = 0; i < 50000; ++i) numbers[i] = next_random();
  qsort(numbers, 50000, sizeof *numbers, compare);
  printf("sort %016llx\n", (unsigned long long)hash_of(numbers, sizeof numbers));

  uint64_t mix = 1;
  for (int i = 0; i < 100000; ++i) {
    const uint64_t r = next_random();
    const unsigned shift = (unsigned)(r >> 58);
    mix = (mix << shift | mix >> ((64 - shift) & 63)) + r / (1 + (r >> 40 & 0xffff)) + r % 1000003;
    mix ^= (uint64_t)(((unsigned __int128)mix * r) >> 64);
    mix += (uint64_t)__builtin_popcountll(r) + (uint64_t)__builtin_clzll(r | 1) + (uint64_t)__builtin_ctzll(r | 1u << 30);
    mix ^= __builtin_bswap64(r) + (uint64_t)((int64_t)r >> 7) + (uint32_t)((int32_t)r / 37) + (uint8_t)((int8_t)r % 11);
  }
  printf("mix %016llx\n", (unsigned long long)mix);

  static uint8_t sieve[200000];
  unsigned primes = 0;
  for (size_t i = 2; i < sizeof sieve; ++i) {
    if (sieve[i]) continue;
    ++primes;
    for (size_t j = 2 * i; j < sizeof sieve; j += i) sieve[j] = 1;
  }
  printf("primes %u\n", primes);
}

static void floats(void) {
  // Sums of exactly representable numbers: the same in SSE2, AVX and x87.
  double matrix[3][48][48];
  for (int i = 0; i < 48; ++i)
    for (int j = 0; j < 48; ++j) {
      matrix[0][i][j] = (double)(int)(next_random() % 2001) - 1000;
      matrix[1][i][j] = (double)(int)(next_random() % 2001) - 1000;
      matrix[2][i][j] = 0;
    }
  for (int i = 0; i < 48; ++i)
    for (int k = 0; k < 48; ++k)
      for (int j = 0; j < 48; ++j) matrix[2][i][j] += matrix[0][i][k] * matrix[1][k][j];
  printf("matrix %016llx\n", (unsigned long long)hash_of(matrix[2], sizeof matrix[2]));

  long double product = 1;
  for (int i = 1; i <= 25; ++i) product *= i;
  printf("long double %.0Lf\n", product);
  printf("round %ld %ld %.1f %.1f %.1f\n", lrint(2.5), lrint(-3.5), floor(-0.5), ceil(0.5), trunc(-7.9));
  printf("special %f %f %d %d\n", INFINITY, -INFINITY, isnan(NAN), signbit(-0.0) != 0);
  printf("sqrt %.15g %.15g\n", sqrt(2.0), hypot(3, 4));
  float total = 0;
  for (int i = 0; i < 4096; ++i) total += (float)(i % 17);
  printf("float %.1f %d %u\n", (double)total, (int)-7.9, (unsigned)3e9);
}

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static long locked, atomic;
static void* count(void* unused) {
  (void)unused;
  for (int i = 0; i < 20000; ++i) {
    pthread_mutex_lock(&mutex);
    ++locked;
    pthread_mutex_unlock(&mutex);
    __atomic_fetch_add(&atomic, 1, __ATOMIC_SEQ_CST);
  }
  return NULL;
}

static void threads(void) {
  pthread_t all[4];
  for (int i = 0; i < 4; ++i) pthread_create(&all[i], NULL, count, NULL);
  for (int i = 0; i < 4; ++i) pthread_join(all[i], NULL);
  printf("threads %ld %ld\n", locked, atomic);
}

static sigjmp_buf back;
static volatile sig_atomic_t faults;
static void on_fault(int number) {
  ++faults;
  siglongjmp(back, number);
}

static void signals(void) {
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_handler = on_fault;
  sigaction(SIGSEGV, &action, NULL);
  sigaction(SIGFPE, &action, NULL);
  sigaction(SIGILL, &action, NULL);
  char* page = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  for (volatile int i = 0; i < 100; ++i)
    if (sigsetjmp(back, 1) == 0) *(volatile char*)page = 1;
  volatile int zero = 0, one = 1;
  const volatile int divide = sigsetjmp(back, 1);
  if (divide == 0) one = one / zero;
  const volatile int illegal = sigsetjmp(back, 1);
  if (illegal == 0) __asm__ volatile("ud2");
  printf("faults %d %d %d\n", (int)faults, divide == SIGFPE, illegal == SIGILL);
}

static void fresh_code(void) {
  // A function written, called, changed and called again: self-modifying code.
  unsigned char* code = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  unsigned total = 0;
  for (unsigned i = 0; i < 2000; ++i) {
    const unsigned char body[] = {0xb8, (unsigned char)i, (unsigned char)(i >> 8), 0, 0, 0xc3};  // mov eax, i; ret
    memcpy(code, body, sizeof body);
    unsigned (*function)(void);
    memcpy(&function, &code, sizeof function);
    total += function();
  }
  printf("fresh code %u\n", total);
}

int main(void) {
  integers();
  floats();
  threads();
  signals();
  fresh_code();
  fflush(stdout);
  int status = 0;
  for (int i = 0; i < 50; ++i) {
    int one;
    const pid_t child = fork();
    if (child == 0) _exit(i);
    waitpid(child, &one, 0);
    status += WEXITSTATUS(one);
  }
  printf("children %d\n", status);
  return 0;
}
