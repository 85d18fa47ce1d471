// Port 80h.
#include "devices/legacy/post_code.h"

#include "base/log.h"

namespace veneer::devices {

void PostCode::write_byte(unsigned, std::uint8_t value) {
  last_ = value;
  VENEER_TRACE(Boot, "post code {:#04x}", value);
}

void PostCode::save(machine::SnapshotWriter& out) const {
  out.section("post_code");
  out.put(last_);
}

void PostCode::restore(machine::SnapshotReader& in) {
  in.section("post_code");
  in.get(last_);
}

}  // namespace veneer::devices
