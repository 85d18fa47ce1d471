// A debugger and its program: single steps, INT3, the debug registers, system call stops, registers from outside.
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

// The debugged code: each numbered label is an instruction, in the order in which they run.
__asm__(
    ".text\n"
    ".globl steps_begin, steps_end, steps_table, watch_code, watch_end\n"
    "steps_begin:\n"
    "10: mov $3, %ecx\n"
    "11: dec %ecx\n"
    "12: jnz 11b\n"
    "13: pushfq\n"
    "14: orq $0x100, (%rsp)\n"  // a program that sets TF itself
    "15: popfq\n"
    "16: nop\n"
    "17: mov $39, %eax\n"       // getpid
    "18: syscall\n"
    "19: nop\n"
    "20: lea 30f(%rip), %rsi\n"
    "21: lea scratch(%rip), %rdi\n"
    "22: mov %ss, %eax\n"
    "23: mov %eax, %ss\n"       // its trap is held until after the next instruction
    "24: nop\n"
    "25: nop\n"
    "26: call 40f\n"
    "27: cpuid\n"
    "28: jmp 30f\n"
    "29: ud2\n"
    "30: nop\n"
    "steps_end:\n"
    "31: ret\n"
    "40: ret\n"
    "watch_code:\n"
    "50: movl $1, before(%rip)\n"
    "51: movl $2, watched(%rip)\n"
    "52: mov watched(%rip), %eax\n"
    "53: movb $3, watched+3(%rip)\n"
    "54: movl $4, after(%rip)\n"
    "55: movq $5, before(%rip)\n"      // its upper half is the watched word
    "56: lock addl $1, watched(%rip)\n"
    "57: push watched(%rip)\n"
    "58: pop watched(%rip)\n"
    "59: lea watched(%rip), %rdi\n"
    "60: lea before(%rip), %rsi\n"
    "61: movsl\n"
    "62: lea before-8(%rip), %rdi\n"
    "63: mov $6, %ecx\n"
    "64: rep stosl\n"
    "65: movups before-4(%rip), %xmm0\n"
    "66: movups %xmm0, before-4(%rip)\n"
    "watch_end:\n"
    "67: ret\n"
    ".data\n"
    "steps_table: .quad 10b,11b,12b,13b,14b,15b,16b,17b,18b,19b,20b,21b,22b,23b,24b,25b,26b,27b,28b,29b,30b,31b,40b\n"
    ".quad 50b,51b,52b,53b,54b,55b,56b,57b,58b,59b,60b,61b,62b,63b,64b,65b,66b,67b, 0\n"
    ".balign 64\n"
    "scratch: .quad 0,0,0,0\n"
    "         .long 0,0,0\n"
    ".globl before, watched, after\n"
    "before:  .long 0\n"
    "watched: .long 0\n"
    "after:   .long 0,0,0,0,0,0,0\n"
    ".text\n");
void steps_begin(void);
void watch_code(void);
extern const uint64_t steps_table[];
extern char steps_end[], watch_end[];
extern uint32_t before, watched, after;

static const char* label(uint64_t rip) {
  static char text[16];
  static const int names[] = {10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30,
                              31, 40, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 63, 64, 65, 66, 67};
  for (unsigned i = 0; steps_table[i]; i++)
    if (steps_table[i] == rip) {
      snprintf(text, sizeof text, "%d", names[i]);
      return text;
    }
  return "?";
}

static void die(const char* what) {
  perror(what);
  exit(1);
}

static uint64_t rip(pid_t child) {
  struct user_regs_struct r;
  if (ptrace(PTRACE_GETREGS, child, 0, &r)) die("getregs");
  return r.rip;
}

static int wait_stop(pid_t child) {
  int status;
  if (waitpid(child, &status, 0) != child) die("wait");
  if (!WIFSTOPPED(status)) {
    printf("the child ended: %x\n", (unsigned)status);
    exit(1);
  }
  return WSTOPSIG(status);
}

static void go(int how, pid_t child) {
  if (ptrace(how, child, 0, 0)) die("resume");
}

static pid_t start(void (*code)(void)) {
  fflush(stdout);
  pid_t child = fork();
  if (child == 0) {
    ptrace(PTRACE_TRACEME, 0, 0, 0);
    raise(SIGSTOP);
    code();
    _exit(7);
  }
  if (wait_stop(child) != SIGSTOP) die("stop");
  return child;
}

static void set_debug_register(pid_t child, unsigned n, uint64_t value) {
  if (ptrace(PTRACE_POKEUSER, child, offsetof(struct user, u_debugreg) + n * 8, value)) die("debug register");
}
static uint64_t debug_register(pid_t child, unsigned n) {
  return (uint64_t)ptrace(PTRACE_PEEKUSER, child, offsetof(struct user, u_debugreg) + n * 8, 0);
}

static void end(pid_t child) {
  int status;
  go(PTRACE_CONT, child);
  waitpid(child, &status, 0);
  printf(" end %d\n", WIFEXITED(status) ? WEXITSTATUS(status) : -1);
}

/// Runs to an instruction by INT3 and takes it out again.
static void run_to(pid_t child, uint64_t address) {
  long old = ptrace(PTRACE_PEEKTEXT, child, address, 0);
  ptrace(PTRACE_POKETEXT, child, address, (old & ~0xffl) | 0xcc);
  go(PTRACE_CONT, child);
  const int signal = wait_stop(child);
  struct user_regs_struct r;
  ptrace(PTRACE_GETREGS, child, 0, &r);
  if (signal != SIGTRAP || r.rip != address + 1) printf("int3: signal %d at %s\n", signal, label(r.rip - 1));
  r.rip = address;
  ptrace(PTRACE_SETREGS, child, 0, &r);
  ptrace(PTRACE_POKETEXT, child, address, old);
}

static void hardware(const char* what, void (*code)(void), uint64_t address, unsigned condition, unsigned bytes) {
  static const unsigned length[] = {0, 0, 1, 0, 3, 0, 0, 0, 2};
  pid_t child = start(code);
  set_debug_register(child, 0, address);
  set_debug_register(child, 7, 1 | condition << 16 | length[bytes] << 18);
  printf("%s:", what);
  for (;;) {
    go(PTRACE_CONT, child);
    int status;
    waitpid(child, &status, 0);
    if (WIFEXITED(status)) break;
    printf(" %s/%llx", label(rip(child)), (unsigned long long)debug_register(child, 6) & 0xf);
    if (WSTOPSIG(status) != SIGTRAP) printf(" signal %d", WSTOPSIG(status));
  }
  printf("\n");
}

static void loop(void) {
  volatile double x = 1;
  for (int i = 0; i < 100000; i++) x = x * 1.000001;
  getppid();
  getppid();
}

int main(void) {
  setvbuf(stdout, 0, _IONBF, 0);
  // Single steps: where each one ends
  pid_t child = start(steps_begin);
  run_to(child, (uint64_t)steps_begin);
  printf("steps:");
  for (unsigned i = 0; i < 40 && rip(child) != (uint64_t)steps_end; i++) {
    go(PTRACE_SINGLESTEP, child);
    const int signal = wait_stop(child);
    printf(" %s", label(rip(child)));
    if (signal != SIGTRAP) printf(" signal %d", signal);
  }
  struct user_regs_struct r;
  ptrace(PTRACE_GETREGS, child, 0, &r);
  r.eflags &= ~0x100ull;
  ptrace(PTRACE_SETREGS, child, 0, &r);
  end(child);

  // Many steps
  child = start(loop);
  run_to(child, (uint64_t)loop);
  unsigned count = 0;
  for (; count < 20000; count++) {
    go(PTRACE_SINGLESTEP, child);
    if (wait_stop(child) != SIGTRAP) break;
  }
  printf("many steps: %u,", count);
  end(child);

  // Breakpoints by debug register
  hardware("execute", watch_code, (uint64_t)watch_code, 0, 1);
  hardware("write 4", watch_code, (uint64_t)&watched, 1, 4);
  hardware("read or write 4", watch_code, (uint64_t)&watched, 3, 4);
  hardware("write 1", watch_code, (uint64_t)&watched + 3, 1, 1);
  hardware("write 8", watch_code, (uint64_t)&before & ~7ull, 1, 8);

  // System calls
  child = start(loop);
  ptrace(PTRACE_SETOPTIONS, child, 0, PTRACE_O_TRACESYSGOOD);
  unsigned stops = 0;
  for (;;) {
    go(PTRACE_SYSCALL, child);
    int status;
    waitpid(child, &status, 0);
    if (WIFEXITED(status)) break;
    ptrace(PTRACE_GETREGS, child, 0, &r);
    if (WSTOPSIG(status) == (SIGTRAP | 0x80) && r.orig_rax == 110) stops++;
  }
  printf("system call stops: %u\n", stops);

  // Vector registers from outside
  child = start(loop);
  struct user_fpregs_struct fp;
  ptrace(PTRACE_GETFPREGS, child, 0, &fp);
  memset(fp.xmm_space, 0xa5, sizeof fp.xmm_space);
  fp.mxcsr = 0x3f80;
  ptrace(PTRACE_SETFPREGS, child, 0, &fp);
  go(PTRACE_SINGLESTEP, child);
  wait_stop(child);
  struct user_fpregs_struct now;
  ptrace(PTRACE_GETFPREGS, child, 0, &now);
  printf("xmm15 %08x mxcsr %x\n", now.xmm_space[63], now.mxcsr);
  kill(child, SIGKILL);
  int status;
  waitpid(child, &status, 0);
  printf("killed by %d\n", WTERMSIG(status));
  return 0;
}
