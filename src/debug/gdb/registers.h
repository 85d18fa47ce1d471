// The registers that gdb sees: names, order and sizes, and where each lives in ArchState.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cpu/state.h"

namespace veneer::debug::gdb {

/// One row of the register table.
struct Register {
  enum class Place : std::uint8_t {
    Gpr,  ///< index: cpu::Gpr
    Rip,
    Eflags,
    Selector,     ///< index: cpu::SegReg
    St,           ///< index: 0..7
    X87Control,   ///< index: 0..7 = FCTRL FSTAT FTAG FISEG FIOFF FOSEG FOOFF FOP, as gdb names them
    SegmentBase,  ///< index: cpu::SegReg
    KernelGsBase,
    Cr,  ///< index: 0, 2, 3, 4, 8
    Efer,
    Xmm,  ///< index: 0..15
    Mxcsr,
    YmmHigh,  ///< index: 0..15, bits 255..128
  };
  std::string name;
  unsigned bytes = 8;
  const char* type = "int64";
  const char* feature = "";
  Place place = Place::Rip;
  unsigned index = 0;
};

/// The table, in the order of gdb's register numbers: a register's number is its index.
const std::vector<Register>& register_table();

/// The target description that tells gdb the same (gdb manual, appendix G).
const std::string& target_xml();

/// A register's bytes, little-endian, `bytes` of them.
std::vector<std::uint8_t> read_register(const cpu::ArchState& state, const Register& reg);
/// Stores bytes into a register; what the hardware would refuse is gdb's user's own risk. `value` has reg.bytes bytes.
void write_register(cpu::ArchState& state, const Register& reg, const std::uint8_t* value);

}  // namespace veneer::debug::gdb
