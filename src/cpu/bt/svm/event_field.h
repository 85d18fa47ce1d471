// EXITINTINFO of an event that the engine delivers (APM 2 15.7.2).
#pragma once

#include "cpu/bt/vcpu.h"

namespace veneer::cpu::bt {

inline EventField event_field(const Fault& what, EventKind kind) {
  unsigned type = EventField::EXCEPTION;  // also INT3, INTO and INT1
  if (kind == EventKind::Software) type = EventField::SOFTWARE;
  if (kind == EventKind::External && what.vector == VECTOR_NMI) type = EventField::NMI;
  if (kind == EventKind::External && what.vector > VECTOR_NMI) type = EventField::INTR;
  std::uint64_t bits = what.vector | type << 8 | EventField::VALID;
  if (what.has_error) bits |= EventField::ERROR_VALID | std::uint64_t{what.error} << 32;
  return {bits};
}

}  // namespace veneer::cpu::bt
