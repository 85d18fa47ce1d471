// Builds the GDT of the 32-bit entry, and the register state that goes with it.
#include "boot/protected_mode.h"

#include <array>
#include <cstdint>

#include "boot/low_memory.h"

namespace veneer::boot {
namespace {

// Selectors that boot.rst prescribes: __BOOT_CS 0x10 and __BOOT_DS 0x18.
constexpr std::uint16_t BOOT_CS = 0x10;
constexpr std::uint16_t BOOT_DS = 0x18;

// Descriptors (SDM 3A 3.4.5): base 0, limit 4 GiB, DPL 0; code 32-bit execute/read, data read/write.
constexpr std::array<std::uint64_t, 4> gdt = {0, 0, 0x00cf'9b00'0000'ffff, 0x00cf'9300'0000'ffff};

}  // namespace

bool enter_protected_mode(machine::GuestMemory& memory, GuestPhys entry, GuestPhys boot_params, cpu::ArchState& state) {
  if (!memory.write_value(GuestPhys{low_memory::GDT}, gdt)) return false;

  cpu::reset_state(state);
  using cpu::Segment;
  constexpr std::uint16_t flat = Segment::P | Segment::S | Segment::DB | Segment::G;
  state.segments.fill(Segment{BOOT_DS, flat | 0x3, 0xffff'ffff, 0});
  state.segments[cpu::CS] = Segment{BOOT_CS, flat | 0xb, 0xffff'ffff, 0};
  state.gdtr = {low_memory::GDT, sizeof gdt - 1};
  state.idtr = {0, 0};
  state.cr0 = cpu::CR0_PE | cpu::CR0_ET;

  state.gpr.fill(0);  // EBP, EDI and EBX have to be zero
  state.gpr[cpu::RSI] = boot_params.value;
  state.gpr[cpu::RSP] = low_memory::BOOT_PARAMS;  // the protocol promises no stack; a usable one costs nothing
  state.rip = entry.value;
  state.rflags = cpu::RFLAGS_FIXED1;
  return true;
}

}  // namespace veneer::boot
