// Hostile kernel: code that changes under those who run it, page tables, locked operands, stacks and code anywhere.
#include "kernel.h"

static u64 physical_of(u64 page) { return GROUND_AT + page % GROUND_PAGES * 4096; }

/// Where nothing should be executed, pushed or locked: local APIC, I/O APIC, BARs, the display window, tables of the
/// BIOS area, the end of RAM, beyond it, not mapped, the border of canonical addresses, a bad page of PLAY.
static u64 strange_address(void) {
  static const u64 places[] = {0xfee00000,         0xfec00000,  0xc0000000,     0xa0000,        0xe0000,
                               0x3fff000,          0x4000000,   0xe0000000,     0xfffff000,     0xf0000000,
                               0xc0000000,         0x100000000, 0x7ffffffff000, 0x800000000000, 0,
                               0xffff800000000000, (u64)-4096,  0x8000000000,   0x8000200000};
  return places[below(sizeof places / sizeof *places)] + (below(2) ? below(4096) : 4096 - below(16));
}

static u8* play_address(void) { return PLAY + below(GROUND_PAGES * 2) * 4096; }

/// Few pages, so that processors meet: in the first 8 of the ground.
enum { CODE_PAGES = 8, FUNCTIONS = 64 };

/// mov eax, imm32; ret; functions call each other now and then.
static void write_function(u8* at) {
  const u32 value = (u32)below(256) * 0x01010101u;
  switch (below(8)) {
    case 0:
      *(volatile u32*)(at + 1) = value;
      break;
    case 1:
      asm volatile("lock; xchgl %0, %1" : : "r"(value), "m"(*(u32*)(at + 1)) : "memory");
      break;
    case 2:
      at[1 + below(4)] = (u8)value;
      break;
    case 3: {
      u64 all = 0xc3000000000000b8ul >> 16 << 16 | 0xb8 | (u64)value << 8;
      all = (all & 0xffffffffffull) | 0xc3ul << 40 | 0x90ul << 48;
      asm volatile("lock; cmpxchgq %2, %1" : "+a"(*(u64*)at) : "m"(*(u64*)at), "r"(all) : "memory", "cc");
      *(volatile u64*)at = all;
      break;
    }
    case 4: {
      const void* from = GROUND + below(CODE_PAGES) * 4096;
      void* to = at;
      u64 n = below(64);
      asm volatile("rep movsb" : "+S"(from), "+D"(to), "+c"(n) : : "memory");
      break;
    }
    case 5: {
      void* to = (void*)((u64)at & -4096ul);
      u64 n = 512;
      asm volatile("rep stosq" : "+D"(to), "+c"(n) : "a"(0x9090c301010101b8ul) : "memory");
      break;
    }
    default: {
      u8 code[16] = {0xb8, (u8)value, 1, 1, 1, 0xc3, 0xc3, 0xc3};
      for (u32 i = 0; i < 8; i++) ((volatile u8*)at)[i] = code[i];
    }
  }
}

static void self_modify(u8* base) {
  for (u32 i = 0; i < 200; i++) {
    u8* at = base + below(CODE_PAGES) * 4096 + below(FUNCTIONS) * 16 + (below(16) ? 0 : 4096 - 16 - FUNCTIONS * 16);
    if (below(3)) {
      u64 result;
      asm volatile("call *%1; sti" : "=a"(result) : "a"(at) : WILD_CODE_CHANGES, "rcx");
    } else {
      write_function(at);
    }
  }
}

void self_modifying(void) { self_modify(GROUND); }

/// The same through whatever PLAY's page table says at the moment: written here, run there.
void aliases(void) {
  const u64 page = below(CODE_PAGES);
  for (u32 i = 0; i < 50; i++) {
    u8* at = PLAY + (page + GROUND_PAGES * below(2)) * 4096 + below(FUNCTIONS) * 16;
    u64 result;
    if (below(2)) write_function(below(2) ? at : GROUND + page * 4096 + below(FUNCTIONS) * 16);
    asm volatile("call *%1; sti" : "=a"(result) : "a"(at) : WILD_CODE_CHANGES, "rcx");
  }
}

/// Random bytes, prefixes and escapes among them, in ring 3 and in memory that the others write as well.
void random_user_code(void) {
  static const u8 escapes[] = {0x0f, 0x0f, 0x66, 0xf2, 0xf3, 0x48, 0x41, 0xc4,
                               0xc5, 0x62, 0xf0, 0x67, 0x8b, 0x89, 0xe8, 0x64};
  u8* at = PLAY + (CODE_PAGES + below(8)) * 4096 + below(4096);
  for (u32 i = 0; i < 64; i++) ((volatile u8*)at)[i] = below(4) ? (u8)RANDOM() : escapes[below(sizeof escapes)];
  const u64 flags = 0x202 | (RANDOM() & 0x40cd5) | (below(16) ? 0 : 0x100);
  const u64 stack = (u64)play_address() + 2048, code = below(4) ? 0x2b : 0x1b;
  asm volatile(
      "push $0x23; push %0; push %1; push %2; push %3; mov %4, %%rax; mov %5, %%rbx; mov %6, %%rsi; mov %7, %%rdi;"
      "mov %6, %%rbp; mov %5, %%r8; mov %4, %%r9; iretq"
      :
      : "r"(stack), "r"(flags), "r"(code), "r"(at), "r"(RANDOM()), "r"(RANDOM()), "r"((u64)play_address()),
        "r"((u64)play_address())
      : "memory");
  __builtin_unreachable();
}

/// Entries change while others use them: present or not, what they allow, where they lead.
void page_tables(void) {
  for (u32 i = 0; i < 60; i++) {
    const u64 page = below(2 * GROUND_PAGES);
    u64 entry = physical_of(RANDOM() >> 20) | 7;
    switch (below(12)) {
      case 0:
        entry &= ~1ul;
        break;
      case 1:
        entry &= ~2ul;
        break;
      case 2:
        entry |= 1ul << 63;
        break;
      case 3:
        entry = (strange_address() & 0xfffff000) | 7;
        break;
      case 4:
        entry = (TABLES_AT + (8 + below(2)) * 4096) | 5;  // the table itself, for reading
        break;
      case 5:
        entry = RANDOM();
        break;
      default:
        entry |= RANDOM() & 0x178;
    }
    // Never the ground's neighbours by accident: a random entry could make this kernel writable to its own storms.
    if ((entry & 1) && (entry >> 12 & 0xffffffffff) < 0x4000 && (entry >> 12 & 0xffffffffff) >= 0x100 &&
        ((entry & 0xfffffff000) < GROUND_AT || (entry & 0xfffffff000) >= GROUND_AT + GROUND_PAGES * 4096))
      entry &= ~2ul;
    __atomic_store_n(&play_table[page], entry, __ATOMIC_RELAXED);
    u8* at = PLAY + page * 4096;
    if (below(2)) asm volatile("invlpg (%0)" : : "r"(at) : "memory");
    if (!below(40)) set_cr3(me()->root);
    if (!below(60)) {
      // A large page, and back.
      u64* directory = (u64*)(u64)(TABLES_AT + 7 * 4096);
      directory[1] = below(2) ? ((u64)play_table + 4096) | 7 : (GROUND_AT | 0x87);
    }
    if (!below(4)) continue;
    at += below(8) ? below(4096) : 4096 - below(16);
    switch (below(4)) {
      case 0:
        (void)*(volatile u64*)at;
        break;
      case 1:
        *(volatile u32*)at = 0xc3c3c3c3;
        break;
      case 2:
        asm volatile("lock; incq (%0)" : : "r"(at) : "memory", "cc");
        break;
      default: {
        const void* from = at;
        void* to = play_address();
        u64 n = below(6000);
        asm volatile("rep movsb" : "+S"(from), "+D"(to), "+c"(n) : : "memory");
      }
    }
  }
}

/// LOCK on everything: aligned, across lines and pages, code, devices, holes.
void locked(void) {
  for (u32 i = 0; i < 40; i++) {
    u8* at = (u8*)GROUND + below(16) * 4096;
    switch (below(6)) {
      case 0:
        at += below(4096);
        break;
      case 1:
      case 2:
        at += 4096 - 1 - below(15);
        break;
      case 3:
        at = (u8*)strange_address();
        break;
      case 4:
        at = play_address() + 4096 - below(16);
        break;
      default:
        at += below(FUNCTIONS) * 16;
    }
    u64 rax = RANDOM(), rdx = RANDOM();
    switch (below(9)) {
      case 0:
        asm volatile("lock; incq (%0)" : : "r"(at) : "memory", "cc");
        break;
      case 1:
        asm volatile("lock; xaddl %k1, (%0)" : : "r"(at), "r"(rax) : "memory", "cc");
        break;
      case 2:
        asm volatile("xchgw %w1, (%0)" : "+r"(at), "+r"(rax) : : "memory");
        break;
      case 3:
        asm volatile("lock; cmpxchgq %2, (%1)" : "+a"(rax) : "r"(at), "r"(rdx) : "memory", "cc");
        break;
      case 4:
        asm volatile("lock; cmpxchg8b (%2)" : "+a"(rax), "+d"(rdx) : "r"(at), "b"(0), "c"(0) : "memory", "cc");
        break;
      case 5:
        asm volatile("lock; cmpxchg16b (%2)"
                     : "+a"(rax), "+d"(rdx)
                     : "r"((u64)at & (below(4) ? -16ul : -1ul)), "b"(0), "c"(0)
                     : "memory", "cc");
        break;
      case 6:
        asm volatile("lock; btsq %1, (%0)" : : "r"(at), "r"(below(100000)) : "memory", "cc");
        break;
      case 7:
        asm volatile("lock; negb (%0); lock; notw (%0)" : : "r"(at) : "memory", "cc");
        break;
      default:
        asm volatile("lock; subl %k1, (%0)" : : "r"(at), "r"(rdx) : "memory", "cc");
    }
  }
}

/// A stack where no stack should be, then pushes, calls, interrupts, exceptions.
void stacks(void) {
  const u64 at = below(4) ? strange_address() : (u64)play_address() + below(4096);
  const u64 how = below(6);
  asm volatile(
      "mov %%rsp, %%rbx; mov %0, %%rsp;"
      "cmp $1, %1; jb 1f; je 2f; cmp $3, %1; jb 3f; je 4f; cmp $5, %1; jb 5f;"
      "pushfq; popfq; jmp 9f;"
      "1: push %%rax; pop %%rax; jmp 9f;"
      "2: call 8f; jmp 9f; 8: ret;"
      "3: int3; jmp 9f;"
      "4: enter $64, $3; leave; jmp 9f;"
      "5: sti; hlt; push %%rbx; iretq;"
      "9: mov %%rbx, %%rsp"
      :
      : "r"(at), "r"(how)
      : "rbx", "rax", "rcx", "rdx", "memory", "cc");
}

/// Code there.
void strange_code(void) {
  u64 at = below(3) ? strange_address() : (u64)play_address() + 4096 - below(16);
  asm volatile("call *%0; sti" : "+a"(at) : : WILD_CODE_CHANGES, "rcx");
}
