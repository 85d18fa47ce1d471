// Collecting the debug port's bytes to lines.
#include "devices/firmware/debug_console.h"

#include "base/log.h"

namespace veneer::devices {

void DebugConsole::write_byte(unsigned, std::uint8_t value) {
  if (!trace_enabled(Trace::Firmware)) return;
  if (value == '\n' || line_.size() >= longest_line) {
    VENEER_TRACE(Firmware, "{}", line_);
    line_.clear();
  }
  // A guest's bytes go to a terminal: only what prints.
  if (value >= ' ' && value < 0x7f) line_ += static_cast<char>(value);
}

void DebugConsole::save(machine::SnapshotWriter& out) const { out.section("debug-console"); }
void DebugConsole::restore(machine::SnapshotReader& in) { in.section("debug-console"); }

}  // namespace veneer::devices
