// Hostile kernel: every processor does one random storm after the other, for ever.
//
// Whatever a storm runs into ends in recover(), which puts this processor right and goes on. The first processor is
// also the guardian: it starts the others again when they have not made a step for long. Each prints its letter now
// and then; after a triple fault the machine is reset and all of this begins anew.
#include "kernel.h"

extern u8 trampoline[], trampoline_end[], gates[], good_gdt[];
extern u32 trampoline_root;
extern const u64 seed, storms_wanted;
void go_to_steps(void (*where)(void)) __attribute__((noreturn));

u32 processors;
u64* play_table;
static u64* root;
static struct {
  u16 low, selector, flags, middle;
  u32 high, zero;
} idt[256] __attribute__((aligned(16)));
static struct {
  u16 limit;
  u64 base;
} __attribute__((packed)) idt_pointer;

static Storm* const storms[] = {self_modifying, aliases,           random_user_code, page_tables, locked,
                                stacks,         strange_code,      interrupts,       descriptors, model_specific,
                                ports,          control_registers, devices,          hypercalls,  own_lapic};

/// ICR: `target` matters without a shorthand only.
void send(u32 command, u32 target) {
  LAPIC[0x310 / 4] = target << 24;
  LAPIC[0x300 / 4] = command;
}

static void start_other(u32 n) {
  struct Processor* p = processor(n);
  p->last_step = tsc();
  // Storms may have been there.
  for (u32 i = 0; i < trampoline_end - trampoline; i++) ((volatile u8*)(u64)TRAMPOLINE_AT)[i] = trampoline[i];
  *(volatile u32*)(TRAMPOLINE_AT + ((u64)&trampoline_root - (u64)trampoline)) = (u32)(u64)root;
  send(0x4500, n);                        // INIT
  send(0x4600 | TRAMPOLINE_AT >> 12, n);  // SIPI
}

static void look_after_others(void) {
  for (u32 n = 1; n < processors; n++)
    if (tsc() - processor(n)->last_step > LOST_CYCLES) {
      put('!');
      start_other(n);
    }
}

static void step(void) {
  struct Processor* p = me();
  for (;;) {
    const u64 now = tsc();
    p->deadline = now + STEP_CYCLES;
    p->last_step = now;
    if (++p->steps - p->steps_told >= 64) {
      p->steps_told = p->steps;
      put((char)('a' + number(p)));
    }
    if (number(p) == 0) look_after_others();
    u64 which = below(sizeof storms / sizeof *storms);
    while (!(storms_wanted >> which & 1)) which = (which + 1) % (sizeof storms / sizeof *storms);
    storms[which]();
    p->deadline = ~0ul;
  }
}

/// Everything that belongs to this processor, as it should be.
static void put_right(struct Processor* p) {
  const u64 cr0 = 0x80010033, cr4 = 0x40620;  // PAE, SSE, XSAVE
  asm volatile("mov %0, %%cr0; mov %1, %%cr4" : : "r"(cr0), "r"(cr4));
  set_cr3(p->root);
  write_msr(0xc0000080, 0xd01);  // SCE, LME, LMA, NXE
  for (u32 i = 0; i < 6; i++) p->gdt[i] = ((u64*)good_gdt)[i];
  const u64 tss = (u64)p->tss;
  p->gdt[6] = 0x67 | (tss & 0xffffff) << 16 | 0x89ul << 40 | (tss >> 24 & 0xff) << 56;
  p->gdt[7] = tss >> 32;
  const u64 area = (u64)p;
  *(u64*)(p->tss + 4) = area + 0x3000;                                                    // RSP0
  for (u32 i = 0; i < 4; i++) *(u64*)(p->tss + 36 + 8 * i) = area + 0x4000 + 0x2000 * i;  // IST
  *(u16*)(p->tss + 102) = 0x68;
  struct {
    u16 limit;
    u64 base;
  } __attribute__((packed)) gdt_pointer = {63, (u64)p->gdt};
  asm volatile(
      "lgdt %0; lidt %1; ltr %w2; mov %w3, %%ds; mov %w3, %%es; mov %w3, %%ss; mov %w4, %%fs; mov %w4, %%gs; lldt %w4"
      :
      : "m"(gdt_pointer), "m"(idt_pointer), "r"(0x30), "r"(0x10), "r"(0));
  asm volatile("mov %0, %%dr7; mov %1, %%dr6; fninit" : : "r"(0x400ul), "r"(0xffff0ff0ul));
}

/// The 8259s say nothing: one that ends its own interrupts (AEOI), with a line that stays up, would let no step begin.
static void silence_8259s(void) {
  for (u16 port = 0x20; port <= 0xa0; port += 0x80) {
    out8(port, 0x11);                         // ICW1: edges, a cascade, ICW4
    out8(port + 1, port == 0x20 ? 0x20 : 0x28);
    out8(port + 1, port == 0x20 ? 4 : 2);
    out8(port + 1, 1);
    out8(port + 1, 0xff);
  }
}

/// A timer for each, so that no step is for ever. An interrupt whose handler came to nothing before its EOI would keep
/// the timer's out.
static void set_timer(void) {
  for (u32 i = 0; i < 8; i++)
    while (LAPIC[(0x100 + 16 * i) / 4]) LAPIC[0xb0 / 4] = 0;
  LAPIC[0xf0 / 4] = 0x1ff;
  LAPIC[0x80 / 4] = 0;
  LAPIC[0x3e0 / 4] = 0xb;           // divide by 1
  LAPIC[0x320 / 4] = 0x20000 | 64;  // periodic
  LAPIC[0x380 / 4] = 4000000;       // 4 ms of the 1 GHz bus clock
}

/// From an exception, or an interrupt in a step that took too long; on the main stack.
void recover(void) {
  struct Processor* p = me();
  p->exceptions++;
  p->deadline = ~0ul;
  put_right(p);
  // Code that is anywhere may have been in the local APIC; the guardian cannot do without its timer.
  if (!(p->exceptions & 63) || number(p) == 0) set_timer();
  if (number(p) == 0) silence_8259s();
  go_to_steps(step);
}

static void begin(struct Processor* p) {
  put_right(p);
  set_timer();
  go_to_steps(step);
}

void other_processor(void) {
  struct Processor* p = me();
  p->random = (seed ^ tsc() * 0x9e3779b97f4a7c15 ^ (u64)number(p) << 56) | 1;
  p->root = (u64)root;
  begin(p);
}

static void make_tables(void) {
  u64* table = (u64*)(u64)TABLES_AT;
  for (u32 i = 0; i < 9 * 512; i++) table[i] = 0;
  root = table;
  u64 *low = table + 512, *directories = table + 1024, *high = table + 6 * 512, *directory = table + 7 * 512;
  play_table = table + 8 * 512;  // and the page behind it
  root[0] = (u64)low | 3;
  root[1] = (u64)high | 7;
  for (u32 i = 0; i < 4; i++) low[i] = (u64)(directories + 512 * i) | 3;
  for (u64 i = 0; i < 2048; i++) directories[i] = i << 21 | 0x83;
  // Code that is anywhere writes to what registers point to. With our own code gone every step would end in recover()
  // for ever, and nothing be tested any more.
  directories[KERNEL_AT >> 21] &= ~2ul;
  high[0] = (u64)directory | 7;
  directory[0] = (u64)play_table | 7;
  directory[1] = (u64)(play_table + 512) | 7;
  for (u64 i = 0; i < 1024; i++) play_table[i] = (GROUND_AT + i % GROUND_PAGES * 4096) | 7;
}

static void make_gates(void) {
  for (u32 i = 0; i < 256; i++) {
    const u64 gate = (u64)(gates + 16 * i);
    idt[i].low = (u16)gate;
    idt[i].selector = 8;
    // Exceptions, interrupts, NMI, double fault: a stack for each.
    idt[i].flags = (u16)(0x8e00 | (i == 2 ? 3 : i == 8 ? 4 : i < 32 ? 1 : 2));
    idt[i].middle = (u16)(gate >> 16);
    idt[i].high = (u32)(gate >> 32);
  }
  idt_pointer.limit = sizeof idt - 1;
  idt_pointer.base = (u64)idt;
}

void first_processor(void) {
  make_tables();
  make_gates();
  struct Processor* p = me();
  for (u32 n = 0; n < MOST_PROCESSORS; n++) {
    u64* area = (u64*)processor(n);
    for (u32 i = 0; i < sizeof(struct Processor) / 8; i++) area[i] = 0;
  }
  p->random = (seed ^ tsc() * 0x9e3779b97f4a7c15) | 1;
  p->root = (u64)root;
  for (u64 i = 0; i < GROUND_PAGES * 4096 / 8; i++) ((u64*)GROUND)[i] = 0xc3c3c3c3c3c3c3c3;
  silence_8259s();
  u32 leaf = 0xb, subleaf = 1, count, unused;
  asm volatile("cpuid" : "+a"(leaf), "=b"(count), "+c"(subleaf), "=d"(unused));
  processors = count > MOST_PROCESSORS ? MOST_PROCESSORS : count;
  put('>');
  for (u32 n = 1; n < processors; n++) start_other(n);
  begin(p);
}
