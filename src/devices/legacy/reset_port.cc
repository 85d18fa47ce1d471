// The reset control register at port CF9h.
#include "devices/legacy/reset_port.h"

namespace veneer::devices {
namespace {
constexpr std::uint8_t RCPU = 0x04;  // a rising edge resets
constexpr std::uint8_t writable = 0x0e;
}  // namespace

void ResetPort::write_byte(unsigned, std::uint8_t value) {
  const bool rises = (value & RCPU) && !(value_ & RCPU);
  value_ = value & writable;
  if (rises) power_.reset();
}

void ResetPort::save(machine::SnapshotWriter& out) const {
  out.section("reset_port");
  out.put(value_);
}

void ResetPort::restore(machine::SnapshotReader& in) {
  in.section("reset_port");
  in.get(value_);
}

}  // namespace veneer::devices
