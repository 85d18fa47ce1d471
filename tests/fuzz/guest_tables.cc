// The guest's descriptor tables, page tables and exception handlers.
#include <cstring>

#include "cpu/state.h"
#include "guest.h"
#include "guest_layout.h"

namespace veneer::fuzz {

using namespace cpu;

namespace {
// Page-table entry bits (SDM 3A 4.5)
constexpr std::uint64_t PTE_P = 1, PTE_W = 2, PTE_U = 4, PTE_A = 0x20, PTE_D = 0x40, PTE_NX = 1ull << 63;
}  // namespace

void Guest::put(std::uint64_t physical, const void* data, std::size_t size) {
  memory_.write(GuestPhys{physical}, {static_cast<const std::byte*>(data), size});
}

void Guest::map(std::uint64_t address, std::uint64_t physical, std::uint64_t flags) {
  std::uint64_t table = page_tables_at;
  for (unsigned shift = 39; shift > 12; shift -= 9) {
    const std::uint64_t entry_at = table + ((address >> shift) & 511) * 8;
    std::uint64_t entry = 0;
    memory_.read_value(GuestPhys{entry_at}, entry);
    if (!(entry & PTE_P)) {
      next_table_ += page_bytes;
      entry = next_table_ | PTE_P | PTE_W | PTE_U | PTE_A;
      put_u64(entry_at, entry);
    }
    table = entry & 0x000ffffffffff000;
  }
  put_u64(table + ((address >> 12) & 511) * 8, physical | flags | PTE_P | PTE_A | PTE_D);
}

void Guest::build_tables() {
  next_table_ = page_tables_at;
  for (std::uint64_t page = 0x1000; page < kernel_end; page += page_bytes) map(kernel_base + page, page, PTE_W);
  for (unsigned i = 0; i < code_pages; i++) map(code_base + i * page_bytes, code_at + i * page_bytes, PTE_U);
  for (std::size_t i = 0; i < data_pages.size(); i++)
    map(data_pages[i].address, data_at[i], PTE_U | PTE_NX | (data_pages[i].writable ? PTE_W : 0));

  // The descriptors that Linux has, where it has them, as far as user code can see them.
  std::uint64_t gdt[gdt_bytes / 8] = {};
  gdt[1] = 0x00cf9b000000ffff;  // 32-bit kernel code
  gdt[2] = 0x00af9b000000ffff;  // kernel code
  gdt[3] = 0x00cf93000000ffff;  // kernel data
  gdt[4] = 0x00cffb000000ffff;  // 32-bit user code
  gdt[5] = 0x00cff3000000ffff;  // user data
  gdt[6] = 0x00affb000000ffff;  // user code
  constexpr std::uint64_t tss = kernel_base + tss_at;
  gdt[8] = 0x00008b0000000000 | (tss_bytes - 1) | (tss & 0xffffff) << 16 | ((tss >> 24) & 0xff) << 56;
  gdt[9] = tss >> 32;
  constexpr std::uint64_t ldt = kernel_base + ldt_at;
  gdt[10] = 0x0000820000000000 | (ldt_bytes - 1) | (ldt & 0xffffff) << 16 | ((ldt >> 24) & 0xff) << 56;
  gdt[11] = ldt >> 32;
  put(gdt_at, gdt, sizeof gdt);
  const auto descriptor = [](std::uint64_t base, std::uint64_t access) {
    return 0xffff | (base & 0xffffff) << 16 | access << 40 | (base >> 24) << 56;
  };
  constexpr std::uint64_t code16 = 0x00fb, data16_to_4GiB = 0x8ff3;
  const std::uint64_t local[] = {descriptor(code_base, code16), descriptor(low_data, data16_to_4GiB)};
  put(ldt_at, local, sizeof local);
  std::uint8_t segment[tss_bytes] = {};
  constexpr std::uint64_t stack = kernel_base + kernel_stack_top;
  std::memcpy(segment + 4, &stack, 8);  // RSP0 (SDM 3A 7.7)
  segment[102] = tss_bytes;             // no I/O permission bitmap
  put(tss_at, segment, sizeof segment);
  for (std::uint64_t vector = 0; vector < 32; vector++) {
    const std::uint64_t handler = handlers_at + vector * handler_bytes;
    // INT3 and INTO may be executed by user code: DPL 3.
    const std::uint64_t dpl = vector == VECTOR_BP || vector == VECTOR_OF ? 3 : 0;
    const std::uint64_t address = kernel_base + handler;
    put_u64(idt_at + vector * 16, (address & 0xffff) | std::uint64_t{kernel_code_selector} << 16 |
                                      (0x8e00 | dpl << 13) << 32 | ((address >> 16) & 0xffff) << 48);
    put_u64(idt_at + vector * 16 + 8, address >> 32);
    constexpr std::uint8_t HLT = 0xf4;
    put(handler, &HLT, 1);
  }
  std::uint8_t filler[page_bytes];
  std::memset(filler, 0xcc, sizeof filler);
  for (unsigned i = 0; i < code_pages; i++) put(code_at + i * page_bytes, filler, sizeof filler);
  for (std::size_t i = 0; i < data_pages.size(); i++) {
    pool_.fill(0, filler);
    put(data_at[i], filler, sizeof filler);
  }
}

}  // namespace veneer::fuzz
