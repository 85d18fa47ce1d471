// Hostile kernel: what its parts share. Freestanding; 64 MiB of memory, mapped one to one with the devices below 4 GiB.
#pragma once

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long u64;

enum {
  MOST_PROCESSORS = 8,
  AREA_AT = 0x2000000,
  AREA_BYTES = 0x10000,
  TRAMPOLINE_AT = 0x8000,
  KERNEL_AT = 0x1000000,  // 2 MiB of code and constants; variables are in the next
  TABLES_AT = 0x1400000,
  GROUND_AT = 0x2800000,  // 512 pages of RAM that storms may do anything to
  GROUND_PAGES = 512,
  STEP_CYCLES = 20000000,
  LOST_CYCLES = 2000000000,
};

// The ground is mapped here too, by one page table that all processors change: the same page at several addresses.
#define PLAY ((u8*)0x8000000000ul)
#define GROUND ((u8*)(u64)GROUND_AT)
#define LAPIC ((volatile u32*)0xfee00000ul)

// At the bottom of each processor's 64 KiB; stacks grow down from the other end. start.S knows the first two.
struct Processor {
  u64 deadline;  // TSC; an interrupt after it ends the step
  u64 taken;     // interrupts
  u64 random;
  u64 steps, exceptions, steps_told;
  u64 last_step;  // TSC
  u64 root;       // page tables
  u8 tss[128] __attribute__((aligned(16)));
  u64 gdt[64] __attribute__((aligned(16)));  // the good one and the TSS; then garbage
  u64 garbage_gdt[32], garbage_idt[64];
};

static inline struct Processor* me(void) {
  u64 sp;
  asm volatile("mov %%rsp, %0" : "=r"(sp));
  return (struct Processor*)(sp & -(u64)AREA_BYTES);
}
static inline struct Processor* processor(u32 n) { return (struct Processor*)(u64)(AREA_AT + n * AREA_BYTES); }
static inline u32 number(struct Processor* p) { return (u32)(((u64)p - AREA_AT) / AREA_BYTES); }

static inline u64 tsc(void) {
  u32 low, high;
  asm volatile("rdtsc" : "=a"(low), "=d"(high));
  return low | (u64)high << 32;
}
static inline u64 random_of(struct Processor* p) {
  u64 x = p->random;
  x ^= x << 13, x ^= x >> 7, x ^= x << 17;
  return p->random = x;
}
#define RANDOM() random_of(me())
static inline u64 below(u64 n) { return (RANDOM() >> 16) % n; }

static inline void out8(u16 port, u8 value) { asm volatile("outb %0, %1" : : "a"(value), "Nd"(port)); }
static inline void put(char c) { out8(0x3f8, (u8)c); }
static inline void write_msr(u32 index, u64 value) {
  asm volatile("wrmsr" : : "c"(index), "a"((u32)value), "d"((u32)(value >> 32)) : "memory");
}
static inline u64 read_msr(u32 index) {
  u32 low, high;
  asm volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(index));
  return low | (u64)high << 32;
}
// What code that others overwrite while it runs may do to its caller. A count in a register would become half a billion,
// and with interrupts off nothing would end such a step.
#define WILD_CODE_CHANGES \
  "memory", "cc", "rbx", "rdx", "rsi", "rdi", "rbp", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"
static inline void set_cr3(u64 value) { asm volatile("mov %0, %%cr3" : : "r"(value) : "memory"); }

// main.c
extern u32 processors;
extern u64* play_table;  // entries of PLAY's first 2 MiB and of the second
void send(u32 command, u32 target);

// One of these is a step. What they break for this processor alone is put right behind them.
typedef void Storm(void);
Storm self_modifying, aliases, random_user_code, page_tables, locked, stacks, strange_code;               // memory.c
Storm interrupts, descriptors, model_specific, ports, control_registers, devices, hypercalls, own_lapic;  // system.c
