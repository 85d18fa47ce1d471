// A race of all processors: they add to one number without a lock, and the first prints what has become of it.
#include "kernel.h"

extern u8 trampoline[], trampoline_end[];
extern u32 trampoline_root;
u32 processors = 1;
static volatile u64 number_of_all;
static volatile u32 done;
static volatile u8 turns[4096];  // who was in the race when
static volatile u64 turn;

static void race(u8 letter) {
  for (u32 i = 0; i < 3000; i++) {
    const u64 seen = number_of_all;
    for (volatile u32 wait = 0; wait < 3; wait++) continue;
    number_of_all = seen + 1;
    if (i % 100 == 0) turns[turn++ % sizeof turns] = letter;
  }
  __atomic_fetch_add(&done, 1, __ATOMIC_SEQ_CST);
}

void recover(void) {
  put('X');
  out8(0xf4, 9);
  for (;;) asm volatile("cli; hlt");
}

void other_processor(void) {
  race((u8)('a' + number(me())));
  for (;;) asm volatile("cli; hlt");
}

void send(u32 command, u32 target) {
  LAPIC[0x310 / 4] = target << 24;
  LAPIC[0x300 / 4] = command;
}

static void print(u64 value) {
  if (value > 9) print(value / 10);
  put((char)('0' + value % 10));
}

void first_processor(void) {
  u64 root;
  asm volatile("mov %%cr3, %0" : "=r"(root));
  trampoline_root = (u32)root;
  for (u32 i = 0; i < trampoline_end - trampoline; i++) ((u8*)(u64)TRAMPOLINE_AT)[i] = trampoline[i];
  u32 leaf = 0xb, subleaf = 1, count, unused;
  asm volatile("cpuid" : "+a"(leaf), "=b"(count), "+c"(subleaf), "=d"(unused));
  processors = count;
  for (u32 n = 1; n < processors; n++) {
    send(0x4500, n);                        // INIT
    send(0x4600 | TRAMPOLINE_AT >> 12, n);  // SIPI
  }
  race('a');
  while (done != processors) asm volatile("pause");
  for (u64 i = 0; i < turn; i++) put((char)turns[i]);
  put(' ');
  print(number_of_all);
  put(' ');
  print(tsc());
  put('\n');
  out8(0xf4, 0);
  for (;;) asm volatile("cli; hlt");
}
