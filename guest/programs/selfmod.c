// Code that is written at run time: rewritten, patched ahead, across pages, through aliases, by another thread.
#define _GNU_SOURCE
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

typedef unsigned (*Function)(unsigned);
static const int RWX = PROT_READ | PROT_WRITE | PROT_EXEC;

static unsigned char* put(unsigned char* p, const char* bytes, unsigned n) {
  memcpy(p, bytes, n);
  return p + n;
}
/// lea eax, [rdi + add]; ret
static void put_adder(unsigned char* p, unsigned add) {
  p = put(p, "\x8d\x87", 2);
  p = put(p, (char*)&add, 4);
  put(p, "\xc3", 1);
}

static void* spin(void* argument) {
  unsigned char* code = argument;
  unsigned long old = 0, new = 0, other = 0;
  for (unsigned i = 0; i < 400000; i++) {
    const unsigned answer = ((Function)code)(0);
    old += answer == 1, new += answer == 2, other += answer != 1 && answer != 2;
  }
  if (other) printf("cross-modified code gave %lu wrong answers\n", other);
  return 0;
}

int main(void) {
  setvbuf(stdout, 0, _IONBF, 0);
  unsigned char* code = mmap(0, 1 << 20, RWX, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  unsigned wrong = 0;

  for (unsigned i = 0; i < 20000; i++) {
    put_adder(code, i);
    wrong += ((Function)code)(5) != 5 + i;
  }
  printf("rewritten in place: wrong %u\n", wrong);

  wrong = 0;
  for (unsigned i = 0; i < 4000; i++) put_adder(code + i * 16, i);
  for (unsigned round = 0; round < 5; round++)
    for (unsigned i = 0; i < 4000; i++) wrong += ((Function)(code + i * 16))(round) != round + i;
  printf("many functions: wrong %u\n", wrong);

  wrong = 0;  // astride every boundary of a page, at every distance
  for (unsigned page = 1; page < 10; page++)
    for (unsigned before = 1; before < 8; before++) {
      unsigned char* p = code + page * 4096 - before;
      put_adder(p, page * before);
      wrong += ((Function)p)(1) != 1 + page * before;
      put_adder(p, page + before);  // both halves change
      wrong += ((Function)p)(1) != 1 + page + before;
      if (before < 6) {
        p[5] ^= 0x40;  // the immediate's last byte, on the second page
        wrong += ((Function)p)(1) != (1 + page + before) + 0x40000000u;
      }
    }
  printf("across pages: wrong %u\n", wrong);

  wrong = 0;  // a function that patches the instruction behind the store, in the same block
  unsigned char* p = code;
  p = put(p, "\x40\x88\x3d\x01\x00\x00\x00", 7);  // mov [rip + 1], dil: the immediate below
  p = put(p, "\xb8\x00\x00\x00\x00", 5);          // mov eax, imm32
  put(p, "\xc3", 1);
  for (unsigned i = 0; i < 1000; i++) wrong += ((Function)code)(i) != (i & 0xff);
  printf("patched ahead: wrong %u\n", wrong);

  wrong = 0;  // a loop that counts up its own immediate
  static const char loop[] =
      "\x31\xc0"                   // xor eax, eax
      "\x05\x00\x00\x00\x00"       // add eax, imm32
      "\xff\x05\xf6\xff\xff\xff"   // inc dword [rip - 10]: imm32
      "\xff\xcf"                   // dec edi
      "\x75\xf1"                   // jnz: to the add
      "\xc3";
  memcpy(code, loop, sizeof loop);
  const unsigned sum = ((Function)code)(1000);
  printf("loop over itself: %s\n", sum == 999 * 1000 / 2 ? "right" : "wrong");

  // Written through one mapping, run through another
  const int fd = memfd_create("code", 0);
  if (ftruncate(fd, 65536)) return 1;
  unsigned char* writable = mmap(0, 65536, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  unsigned char* executable = mmap(0, 65536, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
  wrong = 0;
  for (unsigned i = 0; i < 5000; i++) {
    put_adder(writable + (i % 64) * 64, i);
    wrong += ((Function)(executable + (i % 64) * 64))(1) != 1 + i;
  }
  printf("aliased: wrong %u\n", wrong);

  // By a file write, and by another process
  wrong = 0;
  for (unsigned i = 0; i < 1000; i++) {
    unsigned char bytes[8];
    put_adder(bytes, i);
    if (pwrite(fd, bytes, 7, 0) != 7) return 1;
    wrong += ((Function)executable)(1) != 1 + i;
  }
  for (unsigned i = 0; i < 50; i++) {
    if (fork() == 0) {
      put_adder(writable, i + 100);
      _exit(0);
    }
    wait(0);
    wrong += ((Function)executable)(1) != 101 + i;
  }
  printf("by the kernel and by others: wrong %u\n", wrong);

  // Protection switched to and fro
  wrong = 0;
  unsigned char* strict = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  for (unsigned i = 0; i < 1000; i++) {
    mprotect(strict, 4096, PROT_READ | PROT_WRITE);
    put_adder(strict, i);
    mprotect(strict, 4096, PROT_READ | PROT_EXEC);
    wrong += ((Function)strict)(2) != 2 + i;
  }
  printf("write, then execute: wrong %u\n", wrong);

  // A child's copy-on-write copy is its own
  put_adder(code, 1);
  ((Function)code)(0);
  int status = 0;
  if (fork() == 0) {
    put_adder(code, 2);
    _exit((int)((Function)code)(0));
  }
  wait(&status);
  printf("copy on write: child %d, parent %u\n", WEXITSTATUS(status), ((Function)code)(0));

  // Another address space's code at the same address
  munmap(code, 1 << 20);
  wrong = 0;
  for (unsigned i = 0; i < 200; i++) {
    unsigned char* again = mmap(code, 4096, RWX, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    put_adder(again, i);
    wrong += ((Function)again)(0) != i;
    if (i % 2) munmap(again, 4096);
  }
  printf("mapped anew: wrong %u\n", wrong);

  // One thread runs what another patches by an aligned store
  code = mmap(0, 4096, RWX, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  memcpy(code, "\x0f\x1f\x00\xb8\x01\x00\x00\x00\xc3", 9);  // nop; mov eax, 1 (imm32 at 4); ret
  pthread_t thread;
  pthread_create(&thread, 0, spin, code);
  for (unsigned i = 0; i < 20000; i++) __atomic_store_n((uint32_t*)(code + 4), 1 + (i & 1), __ATOMIC_SEQ_CST);
  pthread_join(thread, 0);
  printf("patched by another thread: done\n");
  return 0;
}
