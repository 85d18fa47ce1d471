// The debug registers: instruction, data and port breakpoints of DR0 to DR3 (SDM 3B 18.2). Register-only.
//
// While one is armed the vCPU runs single-instruction blocks, and a watched page never enters the TLB, so that each
// access to it comes through C++. Linux arms them only while the debugged thread runs.
#include "base/bits.h"
#include "cpu/bt/vcpu.h"

namespace veneer::cpu::bt {
namespace {

enum class Condition : unsigned { Execute = 0, Write = 1, Port = 2, ReadWrite = 3 };

constexpr unsigned breakpoints = 4;

bool armed(std::uint64_t dr7, unsigned n) { return (dr7 >> (2 * n)) & 3; }  // L or G
Condition condition(std::uint64_t dr7, unsigned n) { return static_cast<Condition>((dr7 >> (16 + 4 * n)) & 3); }

/// LENn; 2 is 8 bytes.
unsigned length(std::uint64_t dr7, unsigned n) {
  constexpr std::uint8_t bytes[4] = {1, 2, 8, 4};
  return bytes[(dr7 >> (18 + 4 * n)) & 3];
}

/// The low address bits that the length covers are ignored.
bool overlaps(std::uint64_t breakpoint, unsigned bytes, std::uint64_t address, std::uint64_t size) {
  const std::uint64_t first = breakpoint & ~std::uint64_t{bytes - 1u};
  return address + size - 1 >= first && address <= first + bytes - 1;
}

}  // namespace

void BtVcpu::debug_registers_changed() {
  const bool watched = watch_data_;
  watch_code_ = watch_data_ = watch_ports_ = false;
  for (unsigned n = 0; n < breakpoints; n++) {
    if (!armed(s.dr[7], n)) continue;
    switch (condition(s.dr[7], n)) {
      case Condition::Execute:
        watch_code_ = true;
        break;
      case Condition::Port:
        watch_ports_ |= (s.cr4 & CR4_DE) != 0;
        break;
      default:
        watch_data_ = true;
    }
  }
  if (watched || watch_data_) flush_all_contexts();
}

bool BtVcpu::watched_page(std::uint64_t address) const {
  for (unsigned n = 0; n < breakpoints; n++)
    if (armed(s.dr[7], n) && ((s.dr[n] ^ address) & ~page_offset_mask) == 0) return true;
  return false;
}

void BtVcpu::note_data_access(std::uint64_t address, std::uint64_t size, bool write) {
  for (unsigned n = 0; n < breakpoints; n++) {
    const Condition c = condition(s.dr[7], n);
    const bool right_kind = c == Condition::ReadWrite || (c == Condition::Write && write);
    if (armed(s.dr[7], n) && right_kind && overlaps(s.dr[n], length(s.dr[7], n), address, size)) debug_hits_ |= 1u << n;
  }
}

void BtVcpu::note_port_access(std::uint16_t port, unsigned size) {
  if (!watch_ports_) return;
  for (unsigned n = 0; n < breakpoints; n++)
    if (armed(s.dr[7], n) && condition(s.dr[7], n) == Condition::Port &&
        overlaps(s.dr[n], length(s.dr[7], n), port, size))
      debug_hits_ |= 1u << n;
}

unsigned BtVcpu::instruction_breakpoints(std::uint64_t linear) const {
  unsigned hits = 0;
  for (unsigned n = 0; n < breakpoints; n++)
    if (armed(s.dr[7], n) && condition(s.dr[7], n) == Condition::Execute && s.dr[n] == linear) hits |= 1u << n;
  return hits;
}

void BtVcpu::debug_exception(std::uint64_t dr6_bits, std::uint64_t return_rip) {
  s.dr[6] = (s.dr[6] & ~std::uint64_t{0xf}) | dr6_bits;
  debug_hits_ = 0;
  deliver(Fault{VECTOR_DB, false, 0, 0}, EventKind::Exception, return_rip);
}

}  // namespace veneer::cpu::bt
