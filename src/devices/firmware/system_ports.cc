// Port 92h and the APM ports.
#include "devices/firmware/system_ports.h"

namespace veneer::devices {

void SystemControlPort::write_byte(unsigned, std::uint8_t value) {
  const bool rising = (value & fast_reset) && !(value_ & fast_reset);
  value_ = value & (fast_reset | a20);
  if (rising && on_reset_) on_reset_();
}

void SystemControlPort::save(machine::SnapshotWriter& out) const {
  out.section("port-92");
  out.put(value_);
}

void SystemControlPort::restore(machine::SnapshotReader& in) {
  in.section("port-92");
  value_ = in.get<std::uint8_t>() & (fast_reset | a20);
}

void ApmPorts::save(machine::SnapshotWriter& out) const {
  out.section("apm");
  out.put(values_);
}

void ApmPorts::restore(machine::SnapshotReader& in) {
  in.section("apm");
  for (std::uint8_t& value : values_) in.get(value);
}

}  // namespace veneer::devices
