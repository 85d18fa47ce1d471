// A 32-bit Linux program without a C library that checks what 32-bit programs live on: INT 0x80, the vDSO's fast system
// call (SYSCALL or SYSENTER), thread-local storage, signals with their frames, x87 and SSE state across them, a 16-bit
// code segment in the LDT. Prints one line per check; "compat32: all passed" at the end.
//
// cc -m32 -O1 -static -nostdlib -fno-pic -no-pie -fno-stack-protector -msse2 compat32.c -o compat32
typedef unsigned int u32;
typedef unsigned short u16;

enum { SYS_exit = 1, SYS_fork = 2, SYS_write = 4, SYS_waitpid = 7, SYS_getpid = 20, SYS_modify_ldt = 123,
       SYS_rt_sigaction = 174, SYS_set_thread_area = 243 };
enum { SIGILL = 4, SIGFPE = 8, SIGSEGV = 11, SIGUSR1 = 10 };
enum { SA_SIGINFO = 4, SA_RESTORER = 0x04000000, SA_NODEFER = 0x40000000 };

static long call(long n, long a, long b, long c) {
  long r;
  asm volatile("int $0x80" : "=a"(r) : "0"(n), "b"(a), "c"(b), "d"(c) : "memory");
  return r;
}

static long call6(long n, long a, long b, long c, long d, long e) {
  long r;
  asm volatile("push %%ebp; xor %%ebp, %%ebp; int $0x80; pop %%ebp"
               : "=a"(r) : "0"(n), "b"(a), "c"(b), "d"(c), "S"(d), "D"(e) : "memory");
  return r;
}

static u32 vsyscall;  // AT_SYSINFO

static long fast_call(long n, long a, long b, long c) {
  long r;
  asm volatile("call *%5" : "=a"(r) : "0"(n), "b"(a), "c"(b), "d"(c), "m"(vsyscall) : "memory");
  return r;
}

static u32 length(const char* s) {
  u32 n = 0;
  while (s[n]) n++;
  return n;
}
static void say(const char* s) { call(SYS_write, 1, (long)s, (long)length(s)); }

static int failures;
static void check(const char* what, int ok) {
  say(what);
  say(ok ? ": ok\n" : ": FAILED\n");
  if (!ok) failures++;
}

// ---- thread-local storage
struct user_desc {
  u32 entry_number, base_addr, limit;
  u32 seg_32bit : 1, contents : 2, read_exec_only : 1, limit_in_pages : 1, seg_not_present : 1, useable : 1;
};

static u32 tls_block[16];

static void check_tls(void) {
  struct user_desc d = {(u32)-1, (u32)tls_block, 0xfffff, 1, 0, 0, 1, 0, 1};
  check("set_thread_area", call(SYS_set_thread_area, (long)&d, 0, 0) == 0);
  u16 selector = (u16)(d.entry_number * 8 + 3);
  tls_block[4] = 0x12345678;
  u32 seen, base;
  asm volatile("mov %2, %%gs; mov %%gs:16, %0; movl $0x77, %%gs:20; mov %%gs, %1"
               : "=&r"(seen), "=&r"(base) : "r"((u32)selector) : "memory");
  check("gs:[16]", seen == 0x12345678);
  check("gs:[20] written", tls_block[5] == 0x77);
  check("gs selector", (base & 0xffff) == selector);
  // The thread pointer's negative side, as the old TLS models use it: the address wraps.
  struct user_desc e = {d.entry_number, (u32)(tls_block + 8), 0xfffff, 1, 0, 0, 1, 0, 1};
  call(SYS_set_thread_area, (long)&e, 0, 0);
  tls_block[5] = 0x99;
  asm volatile("mov %1, %%gs; mov %%gs:-12, %0" : "=r"(seen) : "r"((u32)selector));
  check("gs:[-12]", seen == 0x99);
}

// ---- signals
struct sigaction {
  void* handler;
  u32 flags;
  void* restorer;
  u32 mask[2];
};
asm(".text\nrestore: mov $173, %eax\nint $0x80\n");
extern char restore[];

static volatile int signal_seen;
static volatile u32 signal_address;

static void on_signal(int signal, u32* info, u32* context) {
  signal_seen = signal;
  signal_address = info[3];
  // ucontext: flags, link, stack (3), then gs fs es ds edi esi ebp esp ebx edx ecx eax trapno err eip
  u32* registers = context + 5;
  // The interrupted program's state must come back. Faults are passed over: all these instructions have two bytes.
  asm volatile("pcmpeqd %%xmm3, %%xmm3; fninit; fldz" : : : "xmm3");
  if (signal == SIGSEGV || signal == SIGILL || signal == SIGFPE) registers[14] += 2;
}

static void install(int signal) {
  struct sigaction a = {on_signal, SA_SIGINFO | SA_RESTORER | SA_NODEFER, restore, {0, 0}};
  call6(SYS_rt_sigaction, signal, (long)&a, 0, 8, 0);
}

static void check_signals(void) {
  int signals[] = {SIGILL, SIGFPE, SIGSEGV, SIGUSR1};
  for (u32 i = 0; i < 4; i++) install(signals[i]);
  u32 out[4] = {0}, in[4] = {1, 2, 3, 4};
  int top;
  asm volatile("movups %2, %%xmm3; fninit; fldpi; mov $20, %%eax; int $0x80; mov %%eax, %%ebx; mov $10, %%ecx;"
               "mov $37, %%eax; int $0x80; movups %%xmm3, %0; fistpl %1"
               : "=m"(out), "=m"(top) : "m"(in) : "eax", "ebx", "ecx", "xmm3", "memory");
  check("SIGUSR1", signal_seen == SIGUSR1);
  check("xmm3 across a signal", out[0] == 1 && out[3] == 4);
  check("st0 across a signal", top == 3);

  signal_seen = 0;
  asm volatile("mov $0x1000, %%eax; .byte 0x8b, 0x08" : : : "eax", "ecx");  // mov ecx, [eax]
  check("SIGSEGV", signal_seen == SIGSEGV && signal_address == 0x1000);
  signal_seen = 0;
  asm volatile("ud2");
  check("SIGILL", signal_seen == SIGILL);
  signal_seen = 0;
  asm volatile("xor %%ecx, %%ecx; xor %%edx, %%edx; mov $5, %%eax; .byte 0xf7, 0xf1" : : : "eax", "ecx", "edx");  // div ecx
  check("SIGFPE", signal_seen == SIGFPE);
}

// ---- 16-bit code in the LDT
asm(".text\n.code16\ncode16: mov $0x1234, %ax\nadd %cx, %ax\ninc %ax\npush %ax\npop %dx\nlretl\n.code32\n");
extern char code16[];

static void check_ldt(void) {
  struct user_desc d = {0, (u32)code16, 63, 0, 2, 0, 0, 0, 1};
  const long made = call(SYS_modify_ldt, 1, (long)&d, sizeof d);
  if (made == -22) return say("16-bit code: this kernel has none\n");  // EINVAL: no CONFIG_X86_16BIT
  check("modify_ldt", made == 0);
  struct { u32 offset; u16 selector; } target = {0, 7};
  u32 ax = 0xaaaa0000, dx = 0xbbbb0000;
  asm volatile("lcall *%3" : "+a"(ax), "+d"(dx) : "c"(0xcccc1111u), "m"(target) : "memory");
  check("16-bit code", ax == 0xaaaa2346 && dx == 0xbbbb2346);
}

// ---- plain work: calls, 64-bit arithmetic, strings
static unsigned long long fibonacci(u32 n) { return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2); }

static void check_work(void) {
  volatile u32 n = 20;
  check("fibonacci", fibonacci(n) == 6765);
  static char from[5000], to[5000];
  for (u32 i = 0; i < sizeof from; i++) from[i] = (char)(i * 7);
  char* d = to;
  const char* s = from;
  u32 count = sizeof from;
  asm volatile("rep movsb" : "+D"(d), "+S"(s), "+c"(count) : : "memory");
  int same = 1;
  for (u32 i = 0; i < sizeof from; i++) same &= to[i] == from[i];
  check("rep movsb", same);
  u32 al = 0x7b, flags = 0;
  asm volatile("aaa" : "+a"(al), "=@ccc"(flags));
  check("aaa", (al & 0xffff) == 0x0101 && flags);
  double x = 2;
  asm volatile("fsqrt" : "+t"(x));
  check("fsqrt", x > 1.41421356 && x < 1.41421357);
}

static void check_processes(void) {
  long pid = call(SYS_fork, 0, 0, 0);
  if (pid == 0) call(SYS_exit, 42, 0, 0);
  u32 status = 0;
  check("fork, waitpid", pid > 0 && call(SYS_waitpid, pid, (long)&status, 0) == pid && status == 42 << 8);
}

static int run(u32* stack) {
  u32* p = stack + 1;
  while (*p++) {}
  while (*p++) {}
  for (; p[0]; p += 2)
    if (p[0] == 32) vsyscall = p[1];
  check("int 0x80", call(SYS_getpid, 0, 0, 0) > 0);
  check("AT_SYSINFO", vsyscall != 0);
  if (vsyscall) {
    int same = 1;
    const long pid = call(SYS_getpid, 0, 0, 0);
    for (u32 i = 0; i < 1000; i++) same &= fast_call(SYS_getpid, 0, 0, 0) == pid;
    check("fast system call", same);
    check("fast write", fast_call(SYS_write, 1, (long)"fast\n", 5) == 5);
  }
  check_work();
  check_tls();
  check_signals();
  check_ldt();
  check_processes();
  say(failures ? "compat32: FAILED\n" : "compat32: all passed\n");
  return failures != 0;
}

__attribute__((used)) static void start(u32* stack) { call(SYS_exit, run(stack), 0, 0); }
asm(".globl _start\n_start: mov %esp, %eax\nand $-16, %esp\nsub $12, %esp\npush %eax\ncall start\n");
