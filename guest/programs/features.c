// Kernel and processor features that need exact exceptions: vsyscall, vDSO, rseq, seccomp, TSC and port permissions,
// segment bases, LDT, the 32-bit gate, user faults.
#define _GNU_SOURCE
#include <asm/ldt.h>
#include <asm/prctl.h>
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/rseq.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/io.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

static sigjmp_buf back;
static void jump_back(int number) { siglongjmp(back, number); }
static int signal_of(void (*f)(void)) {
  const int number = sigsetjmp(back, 1);
  if (!number) f();
  return number;
}

static void read_tsc(void) { __builtin_ia32_rdtsc(); }
static void out_port_80(void) { __asm__ volatile("outb %al, $0x80"); }
static void out_port_ed(void) { __asm__ volatile("outb %al, $0xed"); }
static void out_word_80(void) { __asm__ volatile("outw %ax, $0x80"); }
static void disable_interrupts(void) { __asm__ volatile("cli"); }
static void store_gdt(void) {
  char at[10];
  __asm__ volatile("sgdt %0" : "=m"(at));
}

static void vsyscall_time(void) {
  const time_t now = time(0);
  if (((time_t(*)(time_t*))0xffffffffff600400)(0) - now > 2) raise(SIGTRAP);
}

static volatile sig_atomic_t trapped;
static void on_sigsys(int number, siginfo_t* i, void* context) {
  (void)number;
  trapped = i->si_syscall;
  ((ucontext_t*)context)->uc_mcontext.gregs[REG_RAX] = 4242;
}

static void filter(unsigned action, unsigned system_call) {
  struct sock_filter program[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, system_call, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, action),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  struct sock_fprog fprog = {4, program};
  prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &fprog)) perror("seccomp");
}

static int child_status(void (*f)(void)) {
  fflush(stdout);
  if (fork() == 0) {
    signal(SIGSEGV, SIG_DFL);
    f();
    _exit(0);
  }
  int status;
  wait(&status);
  return status;
}

static void use_seccomp(void) {
  struct sigaction a = {.sa_sigaction = on_sigsys, .sa_flags = SA_SIGINFO};
  sigaction(SIGSYS, &a, 0);
  filter(SECCOMP_RET_ERRNO | 99, SYS_getuid);
  filter(SECCOMP_RET_TRAP, SYS_getgid);
  const long uid = syscall(SYS_getuid), error = errno, gid = syscall(SYS_getgid);
  printf("seccomp: uid %ld errno %ld, gid %ld trapped %d\n", uid, error, gid, (int)trapped);
  filter(SECCOMP_RET_KILL_PROCESS, SYS_getppid);
  syscall(SYS_getppid);
  printf("not killed\n");
}

// A restartable sequence: increments a counter of this CPU; interrupted, it starts again.
static __thread struct rseq own_rseq __attribute__((aligned(32)));
static unsigned long per_cpu[256], aborts;
static struct rseq* area;

static void rseq_increment(void) {
  for (;;) {
    __asm__ goto volatile(
        ".pushsection __rseq_cs, \"aw\"\n .balign 32\n"
        "3: .long 0, 0\n .quad 1f, 2f - 1f, 4f\n .popsection\n"
        "lea 3b(%%rip), %%rax\n mov %%rax, 8(%0)\n"
        "1: mov 4(%0), %%ecx\n"
        "mov (%1, %%rcx, 8), %%rax\n"
        "inc %%rax\n"
        "mov %%rax, (%1, %%rcx, 8)\n"
        "2:\n"
        ".pushsection .text.unlikely\n .byte 0x0f, 0xb9, 0x3d\n .long 0x53053053\n"
        "4: jmp %l[aborted]\n .popsection\n" ::"r"(area), "r"(per_cpu)
        : "rax", "rcx", "memory"
        : aborted);
    return;
  aborted:
    aborts++;
  }
}

static void tick(int number) { (void)number; }

int main(void) {
  setvbuf(stdout, 0, _IONBF, 0);
  struct sigaction a = {.sa_handler = jump_back, .sa_flags = SA_NODEFER};
  sigaction(SIGSEGV, &a, 0);
  sigaction(SIGILL, &a, 0);
  sigaction(SIGTRAP, &a, 0);

  // The vsyscall page, with vsyscall=xonly: a fetch fault that the kernel emulates
  const int has_page = system("grep -q vsyscall /proc/self/maps") == 0;
  printf("vsyscall: %s\n", signal_of(vsyscall_time) == (has_page ? 0 : SIGSEGV) ? "ok" : "wrong");

  // The vDSO's clock does not run backwards against the system call's
  unsigned backwards = 0;
  for (int i = 0; i < 20000; i++) {
    struct timespec t1, t2;
    clock_gettime(CLOCK_MONOTONIC, &t1);
    syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &t2);
    backwards += t2.tv_sec < t1.tv_sec || (t2.tv_sec == t1.tv_sec && t2.tv_nsec < t1.tv_nsec);
  }
  printf("clock: backwards %u\n", backwards);

  unsigned cpu = 99, node = 99;
  getcpu(&cpu, &node);
  printf("getcpu: %s\n", cpu < 256 && node < 64 && (unsigned)sched_getcpu() < 256 ? "ok" : "wrong");

  // rseq
  if (syscall(SYS_rseq, &own_rseq, sizeof own_rseq, 0, 0x53053053) == 0) {
    area = &own_rseq;
  } else {
    extern const ptrdiff_t __rseq_offset __attribute__((weak));  // the C library has registered its own
    area = &__rseq_offset ? (struct rseq*)((char*)__builtin_thread_pointer() + __rseq_offset) : 0;
  }
  if (area) {
    signal(SIGALRM, tick);
    struct itimerval interval = {{0, 200}, {0, 200}};
    setitimer(ITIMER_REAL, &interval, 0);
    for (int i = 0; i < 3000000; i++) rseq_increment();
    memset(&interval, 0, sizeof interval);
    setitimer(ITIMER_REAL, &interval, 0);
    unsigned long total = 0;
    for (unsigned i = 0; i < 256; i++) total += per_cpu[i];
    printf("rseq: %lu\n", total);
  } else {
    printf("rseq: none\n");
  }

  const int status = child_status(use_seccomp);
  printf("seccomp: killed by %d\n", WIFSIGNALED(status) ? WTERMSIG(status) : 0);

  prctl(PR_SET_TSC, PR_TSC_SIGSEGV);
  const int forbidden = signal_of(read_tsc);
  prctl(PR_SET_TSC, PR_TSC_ENABLE);
  printf("rdtsc: forbidden %d, allowed %d\n", forbidden, signal_of(read_tsc));

  if (geteuid() == 0 && ioperm(0x80, 1, 1) == 0) {
    const int byte = signal_of(out_port_80), word = signal_of(out_word_80), other = signal_of(out_port_ed);
    printf("ports: allowed %d, half %d, other %d", byte, word, other);
    ioperm(0x80, 1, 0);
    printf(", again %d\n", signal_of(out_port_80));
  } else {
    printf("ports: allowed 0, half 11, other 11, again 11\n");  // nobody may ask
  }
  printf("cli %d, sgdt %s\n", signal_of(disable_interrupts), signal_of(store_gdt) ? "stopped" : "emulated");

  // Segment bases, by system call and by instruction
  unsigned long fs, words[2] = {0x1111, 0x2222}, value;
  syscall(SYS_arch_prctl, ARCH_GET_FS, &fs);
  syscall(SYS_arch_prctl, ARCH_SET_GS, words);
  __asm__ volatile("mov %%gs:8, %0" : "=r"(value));
  printf("gs: %lx", value);
  if (getauxval(AT_HWCAP2) & 2) {
    __asm__ volatile("wrgsbase %0" ::"r"(words + 1));
    __asm__ volatile("mov %%gs:0, %0" : "=r"(value));
    sched_yield();
    unsigned long base;
    __asm__ volatile("rdgsbase %0" : "=r"(base));
    printf(" %lx %s", value, base == (unsigned long)(words + 1) ? "kept" : "lost");
  }
  printf(", fs %s\n", fs == (unsigned long)__builtin_thread_pointer() ? "ok" : "wrong");

  // A segment of 16 bytes in the LDT
  static const char text[20] = "bounded segment here";
  char* low = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
  memcpy(low, text, 20);
  struct user_desc d = {.entry_number = 3, .base_addr = (unsigned)(uintptr_t)low, .limit = 15, .seg_32bit = 1,
                        .contents = 0, .useable = 1};
  const long ldt = syscall(SYS_modify_ldt, 1, &d, sizeof d);
  unsigned limit = 0, rights = 0;
  __asm__ volatile("lsl %2, %0\n lar %2, %1" : "+r"(limit), "+r"(rights) : "r"(3 * 8 + 7));
  unsigned byte = 0;
  if (ldt == 0)
    __asm__ volatile("mov %1, %%gs\n movzbl %%gs:4, %0" : "=r"(byte) : "r"(3 * 8 + 7));
  printf("ldt: limit %u rights %x byte %c\n", limit, rights & 0xf0ff00, byte ? byte : '?');

  // The 32-bit gate from 64-bit code
  long pid = 20;
  __asm__ volatile("int $0x80" : "+a"(pid)::"r8", "r9", "r10", "r11", "memory");
  printf("int 0x80: %s\n", pid == getpid() ? "ok" : pid == -ENOSYS ? "ok" : "wrong");
  return 0;
}
