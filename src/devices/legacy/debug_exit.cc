// The debug exit port.
#include "devices/legacy/debug_exit.h"

#include "base/bits.h"

namespace veneer::devices {

std::uint64_t DebugExit::read(std::uint64_t, unsigned size_bytes) { return byte_mask(size_bytes); }

void DebugExit::write(std::uint64_t, unsigned, std::uint64_t value) {
  // An exit status has eight bits; bit 0 is ours.
  power_.guest_exit(static_cast<int>(((value << 1) | 1) & 0xff));
}

void DebugExit::save(machine::SnapshotWriter& out) const { out.section("debug_exit"); }

void DebugExit::restore(machine::SnapshotReader& in) { in.section("debug_exit"); }

}  // namespace veneer::devices
