// Mappings that come, go and change their protection at random, against a model; fork, sharing and moving of them.
#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PAGES = 128, SIZE = 4096, MAPPED = 8 };  // the model: PROT_ bits and MAPPED
static unsigned char model[PAGES], value[PAGES];
static char* area;
static sigjmp_buf back;
static uint64_t state = 88172645463325252u;

static unsigned pick(unsigned n) {
  state ^= state << 13, state ^= state >> 7, state ^= state << 17;
  return (unsigned)((state >> 11) % n);
}
static void fault(int number) { siglongjmp(back, number); }

static unsigned reads, writes, runs, faults, wrong;

static void check_page(unsigned i) {
  char* p = area + i * SIZE;
  const unsigned how = pick(3);
  int allowed = 0;
  const int number = sigsetjmp(back, 1);
  if (!number) {
    if (how == 0) {
      allowed = model[i] & (PROT_READ | PROT_WRITE | PROT_EXEC);  // x86 has no way to forbid reading
      if (*(volatile unsigned char*)(p + 100) != value[i]) wrong++;
      if (!allowed) wrong++;
      reads++;
    } else if (how == 1) {
      allowed = model[i] & PROT_WRITE;
      const unsigned char v = (unsigned char)pick(256);
      *(volatile unsigned char*)(p + 100) = v;
      value[i] = v;
      if (!allowed) wrong++;
      writes++;
    } else {
      allowed = model[i] & PROT_EXEC;
      const unsigned char first = *(volatile unsigned char*)(p + 8);
      if (first == 0xb8) {
        const unsigned answer = ((unsigned (*)(void))(p + 8))();
        if (answer != (unsigned)(p[9] & 0xff) || !allowed) wrong++;
        runs++;
      }
    }
  } else {
    faults++;
    const unsigned may = how == 0 ? model[i] & 7 : how == 1 ? model[i] & PROT_WRITE : model[i] & PROT_EXEC;
    if (may) wrong++;
  }
}

/// mov eax, n; ret, at offset 8.
static void put_code(unsigned i) {
  if (!(model[i] & PROT_WRITE)) return;
  char* p = area + i * SIZE + 8;
  p[0] = (char)0xb8, p[1] = (char)pick(256), p[2] = p[3] = p[4] = 0, p[5] = (char)0xc3;
}

static void random_walk(unsigned rounds) {
  static const int protections[] = {PROT_NONE, PROT_READ, PROT_READ | PROT_WRITE, PROT_READ | PROT_EXEC,
                                    PROT_READ | PROT_WRITE | PROT_EXEC};
  for (unsigned round = 0; round < rounds; round++) {
    const unsigned i = pick(PAGES), n = 1 + pick(i + 8 < PAGES ? 8 : PAGES - i);
    const int protection = protections[pick(5)];
    char* p = area + i * SIZE;
    switch (pick(8)) {
      case 0:
        munmap(p, n * SIZE);
        memset(model + i, 0, n);
        memset(value + i, 0, n);
        break;
      case 1:
        if (mmap(p, n * SIZE, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != p) wrong++;
        memset(model + i, protection | MAPPED, n);
        memset(value + i, 0, n);
        break;
      case 2:
        for (unsigned k = i; k < i + n; k++)
          if (model[k]) {
            if (mprotect(area + k * SIZE, SIZE, protection)) wrong++;
            model[k] = (unsigned char)(protection | MAPPED);
          }
        break;
      case 3:
        for (unsigned k = i; k < i + n; k++)
          if (model[k]) {
            madvise(area + k * SIZE, SIZE, MADV_DONTNEED);
            value[k] = 0;
          }
        break;
      case 4:
        put_code(i);
        break;
      default:
        for (unsigned k = 0; k < 4; k++) check_page(pick(PAGES));
    }
  }
}

int main(void) {
  setvbuf(stdout, 0, _IONBF, 0);
  struct sigaction a = {.sa_handler = fault, .sa_flags = SA_NODEFER};
  sigaction(SIGSEGV, &a, 0);
  sigaction(SIGBUS, &a, 0);
  area = mmap(0, PAGES * SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  munmap(area, PAGES * SIZE);
  random_walk(20000);
  printf("walk: reads %u writes %u runs %u faults %u wrong %u\n", reads, writes, runs, faults, wrong);

  // The same in children that share all of it copy-on-write
  for (unsigned child = 0; child < 8; child++) {
    if (fork() == 0) {
      state += child * 2 + 2;
      wrong = 0;
      random_walk(2000);
      _exit(wrong != 0);
    }
  }
  unsigned bad = 0;
  for (int status; wait(&status) > 0;) bad += status != 0;
  wrong = 0;
  random_walk(2000);
  printf("children: bad %u, parent wrong %u\n", bad, wrong);

  // One page under many addresses
  const int fd = memfd_create("shared", 0);
  if (ftruncate(fd, SIZE * 4)) return 1;
  volatile unsigned* alias[16];
  for (unsigned i = 0; i < 16; i++) alias[i] = mmap(0, SIZE * 4, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  unsigned seen = 0;
  for (unsigned i = 0; i < 16; i++) {
    alias[i][i * 64] = i + 1;
    for (unsigned k = 0; k < 16; k++) seen += alias[k][i * 64] == i + 1;
  }
  printf("aliases: %u\n", seen);

  // mremap moves, grows and shrinks
  char* moving = mmap(0, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  strcpy(moving, "carried along");
  for (unsigned size = 1; size < 300; size = size * 3 / 2 + 1)
    moving = mremap(moving, (size == 1 ? 1 : 0) * SIZE + (size == 1 ? 0 : SIZE), size * SIZE, MREMAP_MAYMOVE);
  printf("moved: %s\n", moving == MAP_FAILED ? "failed" : moving);

  // Two MiB pages, split by a hole and by a protection
  char* huge = mmap(0, 8 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  char* aligned = (char*)(((uintptr_t)huge + (2 << 20) - 1) & ~((uintptr_t)(2 << 20) - 1));
  madvise(aligned, 4 << 20, MADV_HUGEPAGE);
  memset(aligned, 7, 4 << 20);
  madvise(aligned + 5 * SIZE, SIZE, MADV_DONTNEED);
  mprotect(aligned + 9 * SIZE, SIZE, PROT_READ);
  unsigned long total = 0;
  for (unsigned i = 0; i < 4 << 20; i += SIZE) total += (unsigned char)aligned[i];
  volatile int number = sigsetjmp(back, 1);
  if (!number) aligned[9 * SIZE] = 1;
  printf("large pages: %lu, signal %d\n", total, number);
  return 0;
}
