// FERR#, IRQ 13 and port F0h.
#include "devices/legacy/coprocessor_error.h"

namespace veneer::devices {

void CoprocessorError::raise() { set(true); }

void CoprocessorError::set(bool raised) {
  raised_ = raised;
  irq_.set(raised);
}

void CoprocessorError::save(machine::SnapshotWriter& out) const {
  out.section("coprocessor_error");
  out.put(raised_);
}

void CoprocessorError::restore(machine::SnapshotReader& in) {
  in.section("coprocessor_error");
  bool raised = false;
  in.get(raised);
  set(raised);
}

}  // namespace veneer::devices
