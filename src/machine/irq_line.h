// An interrupt line: the one wire that a device holds.
#pragma once

namespace veneer::machine {

/// A level. Devices drive it; interrupt controllers decide whether edge or level counts.
/// Called with the board lock held.
class IrqLine {
 public:
  virtual ~IrqLine() = default;
  virtual void set(bool level) = 0;

  /// A rising and a falling edge, for edge-triggered sources.
  void pulse() {
    set(true);
    set(false);
  }
};

}  // namespace veneer::machine
