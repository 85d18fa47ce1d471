// Builds the GDT and the identity map, and the register state that goes with them.
#include "boot/long_mode.h"

#include <array>
#include <cstdint>

#include "boot/low_memory.h"

namespace veneer::boot {
namespace {

// Selectors that boot.rst prescribes: __BOOT_CS 0x10 and __BOOT_DS 0x18.
constexpr std::uint16_t BOOT_CS = 0x10;
constexpr std::uint16_t BOOT_DS = 0x18;
constexpr std::uint16_t BOOT_TSS = 0x20;

// Descriptors (SDM 3A 3.4.5): base 0, limit 4 GiB, DPL 0; code 64-bit execute/read, data read/write; a busy TSS.
constexpr std::array<std::uint64_t, 6> gdt = {
    0, 0, 0x00af'9b00'0000'ffff, 0x00cf'9300'0000'ffff, 0x0000'8b00'0000'0067, 0,
};

constexpr std::uint64_t PTE_P = 1u << 0;
constexpr std::uint64_t PTE_W = 1u << 1;
constexpr std::uint64_t PTE_PS = 1u << 7;
constexpr std::uint64_t large_page = 2 * MiB;
constexpr std::size_t entries = 512;
constexpr std::size_t directories = 4;  // 1 GiB each

bool write_page_tables(machine::GuestMemory& memory) {
  const std::uint64_t pml4 = low_memory::PAGE_TABLES;
  const std::uint64_t pdpt = pml4 + page_size;
  const std::uint64_t first_directory = pdpt + page_size;

  std::array<std::uint64_t, entries> table{};
  table[0] = pdpt | PTE_P | PTE_W;
  if (!memory.write_value(GuestPhys{pml4}, table)) return false;

  table.fill(0);
  for (std::size_t i = 0; i < directories; ++i) table[i] = (first_directory + i * page_size) | PTE_P | PTE_W;
  if (!memory.write_value(GuestPhys{pdpt}, table)) return false;

  for (std::size_t directory = 0; directory < directories; ++directory) {
    for (std::size_t i = 0; i < entries; ++i)
      table[i] = ((directory * entries + i) * large_page) | PTE_P | PTE_W | PTE_PS;
    if (!memory.write_value(GuestPhys{first_directory + directory * page_size}, table)) return false;
  }
  return true;
}

}  // namespace

bool enter_long_mode(machine::GuestMemory& memory, GuestPhys entry, GuestPhys boot_params, cpu::ArchState& state) {
  if (!memory.write_value(GuestPhys{low_memory::GDT}, gdt)) return false;
  if (!write_page_tables(memory)) return false;

  cpu::reset_state(state);
  using cpu::Segment;
  const Segment code{BOOT_CS, Segment::P | Segment::S | Segment::L | Segment::G | 0xb, 0xffff'ffff, 0};
  const Segment data{BOOT_DS, Segment::P | Segment::S | Segment::DB | Segment::G | 0x3, 0xffff'ffff, 0};
  state.segments.fill(data);
  state.segments[cpu::CS] = code;
  state.ldtr = Segment{};
  state.tr = Segment{BOOT_TSS, Segment::P | 0xb, 0x67, 0};
  state.gdtr = {low_memory::GDT, sizeof gdt - 1};
  state.idtr = {0, 0};

  state.cr0 = cpu::CR0_PE | cpu::CR0_MP | cpu::CR0_ET | cpu::CR0_NE | cpu::CR0_PG;
  state.cr3 = low_memory::PAGE_TABLES;
  state.cr4 = cpu::CR4_PAE;
  state.efer = cpu::EFER_LME | cpu::EFER_LMA;

  state.gpr.fill(0);
  state.gpr[cpu::RSI] = boot_params.value;
  state.gpr[cpu::RSP] = low_memory::BOOT_PARAMS;  // the protocol promises no stack; a usable one costs nothing
  state.rip = entry.value;
  state.rflags = cpu::RFLAGS_FIXED1;
  return true;
}

}  // namespace veneer::boot
