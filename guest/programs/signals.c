// Exceptions as signals, and what a handler finds and leaves: codes, addresses, x87 and vector state, flags, stacks.
#define _GNU_SOURCE
#include <fenv.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <ucontext.h>
#include <unistd.h>

static sigjmp_buf back;
static volatile siginfo_t info;
static volatile greg_t trap, error_code, flags;

static void catcher(int number, siginfo_t* i, void* context) {
  (void)number;
  ucontext_t* c = context;
  memcpy((void*)&info, i, sizeof *i);
  trap = c->uc_mcontext.gregs[REG_TRAPNO];
  error_code = c->uc_mcontext.gregs[REG_ERR];
  flags = c->uc_mcontext.gregs[REG_EFL];
  siglongjmp(back, 1);
}

static void handle(int number, void (*f)(int, siginfo_t*, void*), int more) {
  struct sigaction a = {.sa_sigaction = f, .sa_flags = SA_SIGINFO | more};
  sigaction(number, &a, 0);
}

static char* page;
static volatile int zero = 0, minus_one = -1;
static volatile double dzero = 0, one = 1, huge = 1e300;

static void* address_of(const char* what) { return !strcmp(what, "null") ? 0 : page + 5; }

#define TRY(name, ...)                                                                                             \
  do {                                                                                                             \
    memset((void*)&info, 0, sizeof info);                                                                          \
    if (!sigsetjmp(back, 1)) {                                                                                     \
      __VA_ARGS__;                                                                                                 \
      printf("%s: nothing\n", name);                                                                               \
    } else {                                                                                                       \
      printf("%s: signal %d code %d trap %d error %d%s\n", name, info.si_signo, info.si_code, (int)trap,           \
             (int)error_code, info.si_addr == address_of(name) ? " address ok" : "");                              \
    }                                                                                                              \
    feclearexcept(FE_ALL_EXCEPT);                                                                                  \
    fedisableexcept(FE_ALL_EXCEPT);                                                                                \
  } while (0)

static void aligned_again(int number, siginfo_t* i, void* context) {
  (void)number;
  __asm__ volatile("pushfq\n andl $~0x40000,(%%rsp)\n popfq" ::: "memory");  // it is still set in here
  ucontext_t* c = context;
  memcpy((void*)&info, i, sizeof *i);
  trap = c->uc_mcontext.gregs[REG_TRAPNO];
  error_code = c->uc_mcontext.gregs[REG_ERR];
  c->uc_mcontext.gregs[REG_EFL] &= ~0x40000;
}

static volatile unsigned ticks;
static void dirty(int number, siginfo_t* i, void* context) {
  (void)number, (void)i, (void)context;
  // A handler that uses every register it can.
  __asm__ volatile(
      "fninit\n fldpi\n fldpi\n fldpi\n pcmpeqd %%xmm0,%%xmm0\n pcmpeqd %%xmm7,%%xmm7\n pcmpeqd %%xmm15,%%xmm15\n"
      ::: "xmm0", "xmm7", "xmm15");
  if (__builtin_cpu_supports("avx2"))
    __asm__ volatile("vpcmpeqd %%ymm1,%%ymm1,%%ymm1\n vpcmpeqd %%ymm14,%%ymm14,%%ymm14\n" ::: "xmm1", "xmm14");
  if (__builtin_cpu_supports("avx512f"))
    __asm__ volatile("vpternlogd $0xff,%%zmm31,%%zmm31,%%zmm31\n kxnorw %%k1,%%k1,%%k1\n" :::);
  __asm__ volatile("std");  // the compiler's code expects it clear: put back before anything else
  __asm__ volatile("cld");
  ticks++;
}

static volatile unsigned stepped;
static void step_handler(int number, siginfo_t* i, void* context) {
  (void)number, (void)i;
  ucontext_t* c = context;
  if (++stepped == 5) c->uc_mcontext.gregs[REG_EFL] &= ~0x100;
}

static void change_state(int number, siginfo_t* i, void* context) {
  (void)number, (void)i;
  ucontext_t* c = context;
  c->uc_mcontext.gregs[REG_R12] = 0x1234;
  c->uc_mcontext.fpregs->_xmm[3].element[0] = 0xdecaf;
  c->uc_mcontext.gregs[REG_RIP] += 2;  // over the UD2
}

static unsigned depth;
static void nested(int number, siginfo_t* i, void* context) {
  (void)number, (void)i, (void)context;
  if (++depth < 50) raise(SIGUSR1);
}

static double sum(void) {
  double s = 0;
  long double x = 0;
  for (int i = 1; i <= 3000000; i++) {
    s += 1.0 / i;
    x += 1.0L / i;
    __asm__ volatile("" : "+x"(s));
  }
  return s + (double)x;
}

int main(void) {
  setvbuf(stdout, 0, _IONBF, 0);
  page = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  for (int number = 1; number < 32; number++)
    if (number == SIGFPE || number == SIGSEGV || number == SIGBUS || number == SIGILL || number == SIGTRAP)
      handle(number, catcher, 0);

  TRY("divide by zero", zero = 7 / zero);
  TRY("divide overflow", __asm__ volatile("cltd\n idivl %1" ::"a"(0x80000000), "r"(minus_one) : "edx"));
  TRY("sse divide", feenableexcept(FE_DIVBYZERO); one = 1 / dzero; one = 1);
  TRY("sse invalid", feenableexcept(FE_INVALID); dzero = dzero / dzero; dzero = 0);
  TRY("sse overflow", feenableexcept(FE_OVERFLOW); huge = huge * huge; huge = 1e300);
  TRY("sse inexact", feenableexcept(FE_INEXACT); one = one / 3; one = 1);
  TRY("x87 divide", feenableexcept(FE_DIVBYZERO);
      __asm__ volatile("fld1\n fldz\n fdivrp\n fwait\n fstp %st(0)"));
  TRY("x87 stack", feenableexcept(FE_INVALID); __asm__ volatile("fninit\n fldcw %0\n fstp %%st(0)\n fwait" ::"m"(
                       *(unsigned short*)"\x7e\x03")));
  __asm__ volatile("fninit");
  TRY("undefined", __asm__ volatile("ud2"));
  TRY("int3", __asm__ volatile("int3"));
  TRY("null", *(volatile int*)0 = 1);
  TRY("non-canonical", *(volatile int*)0x8000000000000000 = 1);
  TRY("privileged", __asm__ volatile("hlt"));
  TRY("port", __asm__ volatile("inb $0x80, %%al" ::: "eax"));
  TRY("int 0x81", __asm__ volatile("int $0x81"));
  mprotect(page, 4096, PROT_READ);
  TRY("write to read-only", page[5] = 1);
  mprotect(page, 4096, PROT_NONE);
  TRY("read of none", zero = page[5]; zero = 0);
  zero = 0;
  mprotect(page, 4096, PROT_READ | PROT_WRITE);
  page[5] = (char)0xc3;
  TRY("run of no-execute", ((void (*)(void))(page + 5))());
  mprotect(page + 4096, 4096, PROT_NONE);
  TRY("across two pages", *(volatile long*)(page + 4092) = 1);
  handle(SIGBUS, aligned_again, 0);
  __asm__ volatile("pushfq\n orl $0x40000,(%%rsp)\n popfq\n movl %0,%%eax\n pushfq\n andl $~0x40000,(%%rsp)\n popfq"
                   ::"m"(page[5]) : "eax", "memory");
  printf("alignment: signal %d code %d trap %d error %d\n", info.si_signo, info.si_code, (int)trap, (int)error_code);
  TRY("misaligned vector", __asm__ volatile("movaps %0,%%xmm0" ::"m"(page[8]) : "xmm0"));

  // The flags that arithmetic made before a fault are those in the frame.
  if (!sigsetjmp(back, 1)) {
    __asm__ volatile("movb $0x7f, %%al\n addb $1, %%al\n movl 0, %%eax\n" ::: "eax");
  }
  printf("flags %03x\n", (unsigned)flags & 0x8d5);

  // Computing under a storm of signals that spoil every register
  const double expected = sum();
  handle(SIGALRM, dirty, SA_RESTART);
  struct itimerval interval = {{0, 300}, {0, 300}};
  setitimer(ITIMER_REAL, &interval, 0);
  unsigned wrong = 0, rounds = 0;
  while (ticks < 200 && rounds < 500) wrong += sum() != expected, rounds++;
  memset(&interval, 0, sizeof interval);
  setitimer(ITIMER_REAL, &interval, 0);
  printf("storm: %s, wrong %u\n", ticks >= 200 ? "many signals" : "few signals", wrong);

  // TF set by the program itself
  handle(SIGTRAP, step_handler, 0);
  __asm__ volatile("pushfq\n orl $0x100,(%%rsp)\n popfq\n nop\n nop\n nop\n nop\n nop\n nop\n nop" ::: "memory");
  printf("single steps %u\n", stepped);

  // A handler that changes what it returns to
  handle(SIGILL, change_state, 0);
  uint64_t r12 = 0, xmm3 = 0;
  __asm__ volatile("pxor %%xmm3,%%xmm3\n xor %%r12d,%%r12d\n ud2\n mov %%r12,%0\n movq %%xmm3,%1"
                   : "=r"(r12), "=r"(xmm3)::"r12", "xmm3");
  printf("changed %llx %llx\n", (unsigned long long)r12, (unsigned long long)xmm3);

  // Handlers in handlers, on their own stack
  static char other[1 << 20];
  stack_t stack = {.ss_sp = other, .ss_size = sizeof other};
  sigaltstack(&stack, 0);
  handle(SIGUSR1, nested, SA_NODEFER | SA_ONSTACK);
  raise(SIGUSR1);
  printf("nested %u\n", depth);

  // A stack that ends
  handle(SIGSEGV, catcher, SA_ONSTACK);
  char* small = mmap(0, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  mprotect(small, 4096, PROT_NONE);
  if (!sigsetjmp(back, 1))
    __asm__ volatile("mov %0,%%rsp\n 1: call 1b" ::"r"(small + 65536) : "memory");
  printf("end of stack: signal %d code %d address %s\n", info.si_signo, info.si_code,
         (char*)info.si_addr >= small && (char*)info.si_addr < small + 4096 ? "ok" : "wrong");
  return 0;
}
