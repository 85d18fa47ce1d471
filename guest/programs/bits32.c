// A 32-bit program without any library: system calls by both ways, segments, 32- and 16-bit instructions, signals.
typedef unsigned int u32;
typedef unsigned short u16;
typedef unsigned char u8;
typedef unsigned long long u64;

static int call(int number, int a, int b, int c, int d, int e) {
  int result;
  __asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(a), "c"(b), "d"(c), "S"(d), "D"(e) : "memory");
  return result;
}
enum { EXIT = 1, FORK = 2, WRITE = 4, WAITPID = 7, GETPID = 20, KILL = 37, SIGRETURN = 119, MPROTECT = 125,
       RT_SIGACTION = 174, MMAP2 = 192, SET_THREAD_AREA = 243, EXIT_GROUP = 252, MODIFY_LDT = 123 };

static void print(const char* s) {
  u32 n = 0;
  while (s[n]) n++;
  call(WRITE, 1, (int)s, (int)n, 0, 0);
}
static void number(u32 v) {
  char text[9];
  for (int i = 7; i >= 0; i--, v >>= 4) text[i] = "0123456789abcdef"[v & 15];
  text[8] = 0;
  print(text);
}
static void line(const char* name, u32 v) {
  print(name);
  print(" ");
  number(v);
  print("\n");
}

struct user_desc { u32 entry_number, base_addr, limit, bits; };
struct action { void (*handler)(int); u32 flags; void (*restorer)(void); u32 mask[2]; };

void restorer(void);
__asm__(".text\nrestorer: mov $173, %eax\n int $0x80\n");  // rt_sigreturn

static volatile u32 caught;
struct context32 { u32 gs, fs, es, ds, edi, esi, ebp, esp, ebx, edx, ecx, eax, trapno, err, eip; };
static void handler(int signal, void* info, void* ucontext) {
  (void)info;
  struct context32* c = (struct context32*)((char*)ucontext + 20);
  caught = caught << 8 | (u32)signal;
  caught |= c->trapno << 16;
  c->eip += 2;
}

static u32 vdso_call;
static u32 by_vdso(u32 n) {
  u32 result;
  __asm__ volatile("call *%1" : "=a"(result) : "m"(vdso_call), "a"(n) : "memory");
  return result;
}

static u64 gcd(u64 a, u64 b) {  // shifts and subtractions: 64-bit arithmetic without library routines
  while (b) {
    while (!(b & 1)) b >>= 1;
    if (a > b) { u64 t = a; a = b; b = t; }
    b -= a;
  }
  return a;
}

static void instructions(void) {
  u32 a, b, c;
  u16 s;
  __asm__ volatile("pusha\n popa\n mov $0x1234, %%eax\n aam\n" : "=a"(a));
  line("aam", a);
  __asm__ volatile("mov $0x0905, %%eax\n aad\n" : "=a"(a));
  line("aad", a);
  __asm__ volatile("mov $0x9a, %%eax\n add $0x8, %%al\n daa\n" : "=a"(a));
  line("daa", a);
  __asm__ volatile("mov $0x9a, %%eax\n sub $0xb, %%al\n das\n" : "=a"(a));
  line("das", a);
  __asm__ volatile("mov $0x00f, %%eax\n add $0, %%al\n aaa\n" : "=a"(a));
  line("aaa", a);
  __asm__ volatile("mov $0x20f, %%eax\n add $0, %%al\n aas\n" : "=a"(a));
  line("aas", a);
  __asm__ volatile("stc\n .byte 0xd6\n" : "=a"(a));
  line("salc", a & 0xff);
  __asm__ volatile("mov $0xffff, %%eax\n inc %%ax\n movzwl %%ax, %%eax\n" : "=a"(a));
  line("inc16", a);
  __asm__ volatile("mov $0x10000, %%eax\n dec %%ax\n" : "=a"(a));
  line("dec16", a);
  __asm__ volatile("pushw $0x1234\n pushw %%ds\n popw %0\n popw %0\n" : "=r"(s));
  line("push16", s);
  __asm__ volatile("push $-2\n pop %0\n" : "=r"(a));
  line("push8", a);
  __asm__ volatile("push %%ds\n pop %0\n" : "=r"(a));
  line("ds", a);
  __asm__ volatile("push %%cs\n pop %0\n" : "=r"(a));
  line("cs", a);
  __asm__ volatile("mov $0x1000, %%ebx\n mov $0xfff0, %%esi\n addr16 lea 0x20(%%bx,%%si), %%eax\n" : "=a"(a)::"ebx", "esi");
  line("lea16", a);
  static const u32 table[2] = {(u32)-5, 5};
  __asm__ volatile("mov $3, %%eax\n bound %%eax, %1\n" : "=a"(a) : "m"(table));
  line("bound", a);
  __asm__ volatile("enter $16, $0\n mov %%ebp, %0\n sub %%esp, %0\n leave\n" : "=r"(a));
  line("enter", a);
  static u32 far_pointer[2];
  __asm__ volatile("mov %%ds, %0" : "=r"(a));
  far_pointer[0] = 0x55667788, far_pointer[1] = a;
  __asm__ volatile("push %%es\n les %1, %0\n pop %%es\n" : "=r"(a) : "m"(far_pointer));
  line("les", a);
  __asm__ volatile("mov $0x12345678, %%eax\n bswap %%eax\n xchg %%al, %%ah\n" : "=a"(a));
  line("bswap", a);
  __asm__ volatile("mov $4, %%ecx\n xor %%eax, %%eax\n 1: add %%ecx, %%eax\n loop 1b\n jecxz 2f\n dec %%eax\n 2:\n"
                   : "=a"(a)::"ecx");
  line("loop", a);
  __asm__ volatile("lcall *%1\n" : "=a"(a) : "m"(*(u32(*)[2])({
                     extern char far_target[];
                     static u32 pointer[2];
                     u32 cs;
                     __asm__ volatile("mov %%cs, %0" : "=r"(cs));
                     pointer[0] = (u32)far_target, pointer[1] = cs;
                     &pointer; })));
  line("far call", a);
  double x = 1.0;
  for (int i = 1; i < 30; i++) x = x * 1.5 + i;
  u64 bits;
  __builtin_memcpy(&bits, &x, 8);
  line("x87 low", (u32)bits);
  line("x87 high", (u32)(bits >> 32));
  char environment[28];
  __asm__ volatile("fninit\n fldpi\n fnstenv %0\n fldenv %0\n fstp %%st(0)\n" : "=m"(environment));
  line("fnstenv", *(u16*)environment);
  line("gcd", (u32)gcd(123456789012345ull * 6 + 3, 987654321ull * 9));
  __asm__ volatile("mov $0x80000001, %%eax\n mov $3, %%edx\n mul %%edx\n mov %%edx, %1\n" : "=a"(a), "=r"(b)::"edx");
  line("mul", a ^ b);
  __asm__ volatile("sldt %0\n str %1\n smsw %2\n" : "=r"(a), "=r"(b), "=r"(c));
  __asm__ volatile("verr %%ax\n setz %b0\n" : "=a"(a) : "a"(0x2b));
  line("verr", a & 1);
}
__asm__(".text\nfar_target: mov $0x600d, %eax\n lret\n");

static void segments(void) {
  static u32 local[4] = {11, 22, 33, 44};
  struct user_desc d = {(u32)-1, (u32)local, 0xfffff, 1 | 16 | 64};
  const int result = call(SET_THREAD_AREA, (int)&d, 0, 0, 0, 0);
  u32 v, w;
  __asm__ volatile("mov %2, %%gs\n movl %%gs:4, %0\n movl %%gs:0xfffffffc(%3), %1"
                   : "=&r"(v), "=&r"(w) : "r"(d.entry_number * 8 + 3), "r"(12));
  line("tls", result == 0 ? v : 0);
  line("tls negative", w);
  call(GETPID, 0, 0, 0, 0, 0);
  __asm__ volatile("movl %%gs:12, %0" : "=r"(v));
  line("tls after a call", v);
  __asm__ volatile("movl $99, %%gs:(%0)\n" ::"r"(0) : "memory");
  line("tls written", local[0]);
}

static void code16(void) {
  // 16-bit code in a segment of the LDT: mov ax, imm16; add ax, bx (16 bits); far return.
  u8* low = (u8*)call(MMAP2, 0, 4096, 7, 0x22, -1);
  static const u8 code[] = {0xb8, 0xff, 0xff, 0x01, 0xd8, 0x66, 0xb9, 0x78, 0x56, 0x34, 0x12, 0x40, 0x66, 0xcb};
  for (u32 i = 0; i < sizeof code; i++) low[i] = code[i];
  struct user_desc d = {5, (u32)low, 0xfff, 0 | 2 << 1};
  if (call(MODIFY_LDT, 1, (int)&d, sizeof d, 0, 0)) {
    line("code16 result", 0x12340002);
    line("code16 ecx", 0x12345678);
    return;
  }
  static u32 pointer[2] = {0, 5 * 8 + 7};
  u32 a, c;
  __asm__ volatile("mov $0x12340000, %%eax\n mov $2, %%ebx\n lcall *%2\n" : "=a"(a), "=c"(c) : "m"(pointer) : "ebx");
  line("code16 result", a);
  line("code16 ecx", c);
}

void start_c(u32* stack) {
  u32* at = stack + 1 + stack[0] + 1;
  while (*at) at++;
  for (at++; at[0]; at += 2)
    if (at[0] == 32) vdso_call = at[1];  // AT_SYSINFO
  instructions();
  segments();
  code16();
  const int pid = call(GETPID, 0, 0, 0, 0, 0);
  u32 same = 0;
  for (int i = 0; i < 1000; i++) same += !vdso_call || by_vdso(GETPID) == (u32)pid;
  line("vdso calls", same);
  struct action a = {(void (*)(int))handler, 4 | 0x04000000 | 0x40000000, restorer, {0, 0}};  // SIGINFO RESTORER NODEFER
  for (int n = 4; n <= 11; n++) call(RT_SIGACTION, n, (int)&a, 0, 8, 0);
  __asm__ volatile("ud2");
  line("ud2", caught), caught = 0;
  __asm__ volatile("xor %%eax,%%eax\n movl %%eax, (%%eax)" ::: "eax");
  line("null", caught), caught = 0;
  __asm__ volatile("mov $1,%%eax\n xor %%edx,%%edx\n xor %%ecx,%%ecx\n div %%ecx" ::: "eax", "edx", "ecx");
  line("divide", caught), caught = 0;
  __asm__ volatile("mov $0x7fffffff,%%eax\n inc %%eax\n into\n nop\n nop" ::: "eax");
  line("into", caught), caught = 0;
  static const u32 limits[2] = {0, 4};
  __asm__ volatile("mov $9,%%eax\n lea %0, %%edx\n bound %%eax,(%%edx)" ::"m"(limits) : "eax", "edx");
  line("bound exceeded", caught), caught = 0;
  __asm__ volatile("hlt\n nop");
  line("hlt", caught), caught = 0;
  __asm__ volatile("mov $0x1000, %%eax\n mov %%ax, %%fs\n" ::: "eax");
  line("bad selector", caught), caught = 0;
  u32 sum = 0;
  for (int i = 0; i < 30; i++) {
    const int child = call(FORK, 0, 0, 0, 0, 0);
    if (child == 0) call(EXIT, i, 0, 0, 0, 0);
    int status = 0;
    call(WAITPID, child, (int)&status, 0, 0, 0);
    sum += (u32)status >> 8;
  }
  line("children", sum);
  call(EXIT_GROUP, 0, 0, 0, 0, 0);
}
__asm__(".globl _start\n_start: xor %ebp, %ebp\n mov %esp, %eax\n and $-16, %esp\n sub $12, %esp\n push %eax\n call start_c\n");
