// Hostile kernel: interrupts, descriptor tables, registers of the processor and of devices.
#include "kernel.h"

void interrupts(void) {
  for (u32 i = 0; i < 30; i++) {
    const u32 target = (u32)below(processors + 1);
    const u32 vector = 32 + (u32)below(224);
    switch (below(10)) {
      case 0:
        send(0x4400, target);  // NMI
        break;
      case 1:
        send(0x80000 | vector, 0);  // all with self
        break;
      case 2:
        send(0xc0000 | vector, 0);
        break;
      case 3:
        send(0x40000 | vector, 0);
        break;
      case 4:
        if (!below(200) && target && target < processors) send(0x4500, target);  // INIT: the guardian helps
        break;
      case 5:
        send(0x4600 | TRAMPOLINE_AT >> 12, target);  // SIPI for somebody who runs
        break;
      case 6:
        send(0x100 | vector, target);  // lowest priority
        break;
      case 7:
        send((u32)below(256), target);  // illegal vectors, too
        break;
      default:
        send(vector, target);
    }
    if (!below(8)) asm volatile("sti; hlt");
    if (!below(8)) asm volatile("cli; pause; sti; pause");
  }
}

static u64* random_words(u64* words, u32 n) {
  for (u32 i = 0; i < n; i++) {
    words[i] = RANDOM();
    // Half of them present, and of a type that is something.
    if (below(2)) words[i] |= 0x80ul << 40;
    if (below(3) == 0) words[i] = (words[i] & ~0xff0000fffffffffful) | ((u64)me()->gdt & 0xffffff);
  }
  return words;
}

struct Pointer {
  u16 limit;
  u64 base;
} __attribute__((packed));

/// Random tables, and instructions that look into them.
void descriptors(void) {
  struct Processor* p = me();
  struct Pointer gdt = {sizeof p->garbage_gdt - 1, (u64)random_words(p->garbage_gdt, 32)};
  struct Pointer idt = {sizeof p->garbage_idt - 1, (u64)random_words(p->garbage_idt, 64)};
  // Without a code segment for the handlers every exception is the end of the machine: now and then.
  for (u32 i = 1; i < 6; i++)
    if (below(i < 3 ? 256 : 4)) p->garbage_gdt[i] = p->gdt[i];
  if (!below(256)) gdt.limit = (u16)RANDOM();
  if (!below(256)) gdt.base = RANDOM();
  asm volatile("lgdt %0" : : "m"(gdt));
  for (u32 i = 0; i < 20; i++) {
    const u64 selector = below(2) ? below(32) * 8 + below(4) : RANDOM() & 0xffff;
    u64 result = 0;
    struct {
      u64 offset;
      u16 selector;
    } far = {RANDOM(), (u16)selector};
    if (below(2)) far.offset = (u64)GROUND + below(64) * 16;
    switch (below(14)) {
      case 0:
        asm volatile("mov %w0, %%ds" : : "r"(selector));
        break;
      case 1:
        asm volatile("mov %w0, %%es" : : "r"(selector));
        break;
      case 2:
        asm volatile("mov %w0, %%fs; mov %%fs:0, %%eax" : : "r"(selector) : "rax", "memory");
        break;
      case 3:
        asm volatile("mov %w0, %%ss; nop" : : "r"(selector));
        break;
      case 4:
        asm volatile("lar %1, %0; lsl %1, %0; verr %w1; verw %w1" : "+r"(result) : "r"(selector) : "cc");
        break;
      case 5:
        asm volatile("lldt %w0; mov %w1, %%gs" : : "r"(selector), "r"(selector | 4));
        break;
      case 6:
        if (!below(8)) asm volatile("ltr %w0" : : "r"(selector));
        break;
      case 7:
        asm volatile("rex64 lcall *%0" : : "m"(far) : "memory", "cc", "rax");
        break;
      case 8:
        asm volatile("ljmp *%0" : : "m"(far) : "memory");
        break;
      case 9:
        asm volatile("push %0; push %1; lretq" : : "r"(selector), "r"(far.offset) : "memory");
        break;
      case 10:
        asm volatile("push %0; push %1; push $0x202; push %0; push %2; iretq"
                     :
                     : "r"(selector), "r"(RANDOM()), "r"(far.offset)
                     : "memory");
        break;
      case 11:
        asm volatile("int $0x80; int3");
        break;
      case 12:
        if (!below(500)) {
          // Whatever comes now may be the end of this machine.
          asm volatile("lidt %0; ud2" : : "m"(idt));
        }
        break;
      default: {
        struct Pointer stored;
        asm volatile("sgdt %0; sidt %0; sldt %1; str %1; smsw %1" : "=m"(stored), "+r"(result));
      }
    }
  }
}

void model_specific(void) {
  static const u32 bases[] = {0,          0x100,      0x170,      0x200,      0x277,      0x6e0,      0x800, 0x800,
                              0xc0000080, 0xc0000100, 0x4b564d00, 0x4b564d00, 0xc0010000, 0xc0011000, 0xd90, 0x48};
  for (u32 i = 0; i < 10; i++) {
    u32 index = bases[below(sizeof bases / sizeof *bases)] + (u32)below(below(2) ? 8 : 256);
    if (!below(8)) index = (u32)RANDOM();
    // APIC off, or its registers elsewhere, is a machine without a guardian.
    if (index == 0x1b) continue;
    u64 value = below(2) ? RANDOM() : 1ul << below(64);
    if (index - 0x4b564d00 < 8) value = (GROUND_AT + below(GROUND_PAGES * 64) * 64) | below(2);
    asm volatile("" : : : "memory");
    if (below(2)) value = read_msr(index) ^ 1ul << below(64);
    if (below(2)) write_msr(index, value);
  }
}

void ports(void) {
  static const u16 bases[] = {0x20,  0x40,  0x60,   0x70,  0x80,  0xa0,  0x4d0,
                              0x600, 0xcf8, 0xc000, 0x2f8, 0x170, 0x510, 0xae00};
  for (u32 i = 0; i < 20; i++) {
    u16 port = below(4) ? (u16)(bases[below(sizeof bases / sizeof *bases)] + below(16)) : (u16)RANDOM();
    u32 value = (u32)RANDOM();
    // Power off is no storm, and a reset each millisecond would leave no time for others.
    const u32 reset = port - 0x601u < 15 || port - 0x61u < 4 || port - 0x8fu < 4 || port - 0xcf5u < 5;
    if (reset || port - 0x3f0u < 16 || port == 0xf4 || port - 0x5fu < 2) value &= 0, port = 0x80;
    switch (below(6)) {
      case 0:
        asm volatile("outb %b0, %w1" : : "a"(value), "d"(port));
        break;
      case 1:
        asm volatile("outw %w0, %w1" : : "a"(value), "d"(port));
        break;
      case 2:
        asm volatile("outl %0, %w1" : : "a"(value), "d"(port));
        break;
      case 3:
        asm volatile("inb %w1, %b0" : "+a"(value) : "d"(port));
        break;
      case 4:
        asm volatile("inl %w1, %0" : "+a"(value) : "d"(port));
        break;
      default: {
        void* to = PLAY + below(GROUND_PAGES) * 4096;
        u64 n = below(64);
        asm volatile("rep insw" : "+D"(to), "+c"(n) : "d"(port) : "memory");
      }
    }
  }
}

void control_registers(void) {
  struct Processor* p = me();
  for (u32 i = 0; i < 10; i++) {
    u64 value;
    switch (below(9)) {
      case 0:
        asm volatile("mov %%cr0, %0" : "=r"(value));
        value ^= 1ul << (below(2) ? 16 : below(31));
        asm volatile("mov %0, %%cr0" : : "r"(value | 1));
        break;
      case 1:
        asm volatile("mov %%cr4, %0" : "=r"(value));
        value ^= 1ul << below(24);
        asm volatile("mov %0, %%cr4" : : "r"(value));
        break;
      case 2:
        set_cr3(p->root | below(2) << 3 | below(4));
        break;
      case 3: {
        const u64 operand[2] = {below(4), RANDOM() >> below(64)};
        asm volatile("invpcid %1, %0" : : "r"(below(5)), "m"(operand) : "memory");
        break;
      }
      case 4:
        asm volatile("mov %0, %%dr0; mov %0, %%dr1; mov %1, %%dr7"
                     :
                     : "r"((u64)GROUND + below(4096)), "r"(RANDOM() & 0xffff00ff));
        break;
      case 5:
        asm volatile("xsetbv" : : "c"(0), "a"((u32)below(256)), "d"(0));
        break;
      case 6:
        asm volatile("pushq %0; popfq" : : "r"((RANDOM() & 0x47fd5) | 0x200) : "cc", "memory");
        break;
      case 7:
        asm volatile("wbinvd; clts");
        break;
      default:
        asm volatile("mov %0, %%cr8" : : "r"(below(18)));
        asm volatile("mov %0, %%cr8" : : "r"(0ul));
    }
  }
}

/// Configuration space, so that BARs move, and the memory where they may be.
void devices(void) {
  static const u64 windows[] = {0xc0000000, 0xfec00000, 0xa0000,    0xc0008000,
                                0xfebf8000, 0xe0000000, 0xc0010000, 0xfed00000};
  for (u32 i = 0; i < 20; i++) {
    if (!below(3)) {
      asm volatile("outl %0, %w1"
                   :
                   : "a"((u32)(0x80000000 | (RANDOM() & 0x18fc) | (below(2) ? 0x1800 : 0))), "d"(0xcf8u));
      if (below(2))
        asm volatile("outl %0, %w1" : : "a"((u32)RANDOM()), "d"(0xcfcu));
      else
        asm volatile("outw %w0, %w1" : : "a"((u32)RANDOM()), "d"(0xcfc + (u32)below(2) * 2));
      continue;
    }
    u8* at = (u8*)windows[below(sizeof windows / sizeof *windows)] + below(4096);
    switch (below(5)) {
      case 0:
        *(volatile u8*)at = (u8)RANDOM();
        break;
      case 1:
        *(volatile u64*)at = RANDOM();
        break;
      case 2:
        (void)*(volatile u32*)at;
        break;
      case 3: {
        const void* from = at;
        void* to = play_table ? GROUND + below(GROUND_PAGES - 1) * 4096 : at;
        u64 n = below(300);
        asm volatile("rep movsb" : "+S"(from), "+D"(to), "+c"(n) : : "memory");
        break;
      }
      default:
        asm volatile("mov %0, %%eax; lock; xaddl %%eax, %0" : "+m"(*(u32*)at) : : "eax", "cc", "memory");
    }
  }
}

void hypercalls(void) {
  static const u64 numbers[] = {1, 5, 9, 10, 11, 12};
  for (u32 i = 0; i < 10; i++) {
    u64 result = below(8) ? numbers[below(sizeof numbers / sizeof *numbers)] : RANDOM();
    u64 command = below(2) ? 32 + below(224) : RANDOM() & ~0x700ul;
    asm volatile("vmcall"
                 : "+a"(result)
                 : "b"(below(2) ? RANDOM() : below(256)), "c"(below(16)), "d"(below(80)), "S"(command)
                 : "memory");
  }
  // The page of the steal time: anywhere in the ground, in PLAY's pages of code, too.
  write_msr(0x4b564d03, (GROUND_AT + below(GROUND_PAGES * 64) * 64) | 1);
  asm volatile("sti; hlt");
  *(volatile u8*)(GROUND + below(GROUND_PAGES * 64) * 64 + 16) |= 2;
}

/// Not the guardian's: its timer ends its steps. Not the id: the others are found by it.
void own_lapic(void) {
  if (me() == processor(0)) return;
  for (u32 i = 0; i < 20; i++) {
    const u32 offset = (u32)below(0x40) * 16;
    if (offset == 0x20 || offset == 0x300) continue;
    if (below(2))
      LAPIC[offset / 4] = (u32)RANDOM();
    else
      (void)LAPIC[offset / 4];
  }
}
